"""A UI that draws on a graphics card gains nothing from an engine on the processor."""

from __future__ import annotations

import sys
from collections.abc import Callable

from ...engine import Link
from ...launcher import spoken_command
from .calls import NotServed

GPU_HOSTS = ("torch", "tensorrt")


def no_gpu_engine() -> str:
    """One line for somebody who draws pictures, with the command of this installation."""
    return f'no engine for the graphics card is installed yet (run: {spoken_command()} host install torch --reuse "{sys.executable}")'


def require_gpu_engine(link: Link, check: Callable[[], None]) -> None:
    """For a run with the host left to the sidecar, in a UI whose own device is a GPU. Raises NotServed when only the processor's engine is there,
    SidecarError, or what `check` raises.
    """
    hosts = link.call("status", {}, check=check).result["hosts"]
    if not any(host["kind"] in GPU_HOSTS and host["available"] and not str(host["device"] or "").startswith("cpu") for host in hosts):
        raise NotServed(no_gpu_engine(), "RUN_NO_GPU_ENGINE")
