"""Tells the user where a picture was made: the panel, one log line when that was not an engine, and the text below the picture."""

from __future__ import annotations

import logging
from typing import Any

from ...engine import RunReport
from ...service import LastRun
from ...service.spoken import told
from .desired import Desired
from .plugin import plugin, ui_name

# The UI owns the logging configuration; this logger only speaks.
log = logging.getLogger("refit_sidecar")


def serving(desired: Desired, report: RunReport) -> None:
    """An engine is ready and takes the next steps."""
    plugin().status.update(
        state="serving",
        line=f"{desired.name} runs on an engine ({report.host}, {report.precision}); refit {report.refit_ms:.0f} ms.",
        last_refit_ms=report.refit_ms,
        engine=report.engine,
        stack=tuple((applied.name, applied.strength) for applied in desired.stack),
    )


def served(desired: Desired, report: RunReport) -> None:
    """A run on an engine is over."""
    status = plugin().status
    if status.view.state != "fallback":
        steps = max(report.steps, 1)
        each = f"{report.steps} steps of {report.step_ms / steps:.0f} ms"
        status.update(
            state="idle",
            line=f"{desired.name} ran on an engine ({report.host}, {report.precision}): refit {report.refit_ms:.0f} ms, {each}.",
        )
    plugin().facts.ran(LastRun("engine", desired.name, "", report))


def stayed_local(processing: Any, name: str, reason: Exception) -> None:
    """One line: in the panel, in the log and below the picture. `processing`: the UI's, or None outside of a picture."""
    line = f"{name} runs in {ui_name()} itself, not on an engine: {told(reason)}"
    plugin().status.update(state="fallback", line=line)
    plugin().facts.ran(LastRun("local", name, told(reason)))
    log.warning("Refit: %s", line)
    if hasattr(processing, "comment"):
        processing.comment(f"Refit: {line}")
