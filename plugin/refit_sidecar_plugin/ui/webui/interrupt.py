"""The user's interrupt, skip and stop buttons, asked about while waiting for the sidecar."""

from __future__ import annotations

from modules import sd_samplers_common, shared


class Stopped(Exception):
    """The user stopped waiting for an engine. The UI's own code ends the picture, as after any interrupt."""


def check_preparing() -> None:
    """Outside of a sampler nobody catches the UI's own exception. "Stop" means to finish the picture, which need not wait for an engine."""
    state = shared.state
    if state.interrupted or state.skipped or getattr(state, "stopping_generation", False):
        raise Stopped


def check_sampling() -> None:
    """Inside of a sampler the UI's own exception ends the sampling; "stop" finishes the picture first."""
    if shared.state.interrupted or shared.state.skipped:
        raise sd_samplers_common.InterruptedException
