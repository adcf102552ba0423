"""Which TensorRT library serves, and what it says. `tensorrt_rtx` and `tensorrt` share one API; their few differences end here."""

from __future__ import annotations

import importlib
import logging
import re
from collections import deque
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from refit_host.failure import HostFailure

log = logging.getLogger("refit_host")
Capability = tuple[int, int]
LIBRARIES = ("tensorrt_rtx", "tensorrt")
# Lines of the library's own complaints that a failure quotes; one failed build can print thousands.
KEPT_COMPLAINTS = 8
ASKED = re.compile(r"OutOfMemory|out of memory", re.IGNORECASE)
SIZE = re.compile(r"Requested size was (\d+) bytes")
# The library says only here, among its verbose lines, that an engine's scratch memory was too small: (allowed, needed) bytes.
BUDGET = re.compile(r"Exceeded mem budget of (\d+)\. Need (\d+)")
DTYPES = {torch.float32: "FLOAT", torch.float16: "HALF", torch.bfloat16: "BF16", torch.int64: "INT64", torch.int32: "INT32"}


@dataclass(frozen=True)
class Binding:
    """`trt`: the module; `logger`: its logger, `complaints`: what it lately reported as errors."""

    trt: ModuleType
    name: str
    version: str
    logger: Any
    complaints: deque[str]

    @property
    def rtx(self) -> bool:
        return self.name == "tensorrt_rtx"

    def dtype(self, dtype: torch.dtype) -> Any:
        """The library's name for a dtype of torch."""
        return getattr(self.trt.DataType, DTYPES[dtype])

    def target(self, capability: Capability) -> Any | None:
        """The library's name of a compute capability that an engine can be built for; None: it builds for the device at hand only."""
        return self._capability(f"SM{capability[0]}{capability[1]}")

    @property
    def this_device(self) -> Any | None:
        """The library's name for whatever device is at hand; None where it has no such name."""
        return self._capability("CURRENT")

    def _capability(self, name: str) -> Any | None:
        return getattr(getattr(self.trt, "ComputeCapability", None), name, None)

    def lacked(self) -> tuple[int, int] | None:
        """(allowed, needed) bytes of scratch memory, when the last build failed for want of it."""
        return next(((int(found[1]), int(found[2])) for line in self.complaints if (found := BUDGET.search(line))), None)

    def refused_memory(self) -> int | None:
        """Bytes of device memory that were asked for in vain (0: it does not say); None when memory was not what lacked."""
        lines = [line for line in self.complaints if ASKED.search(line)]
        return None if not lines else max(int(found[1]) if (found := SIZE.search(line)) else 0 for line in lines)

    def said(self) -> str:
        """The last complaints, in one line, without paths."""
        words = " | ".join(self.complaints)
        self.complaints.clear()
        return " ".join(word if "/" not in word else "…" for word in words.split())[:600] or "no reason given"


def _logger(trt: ModuleType, complaints: deque[str]) -> Any:
    errors = (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR)

    class Log(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity in errors:
                complaints.append(message[:400])
                log.warning("tensorrt: %s", message[:400])
            elif severity == trt.ILogger.WARNING:
                log.info("tensorrt: %s", message[:400])
            elif "mem budget" in message:
                complaints.append(message[:400])

    return Log()


def wrap(trt: ModuleType) -> Binding:
    complaints: deque[str] = deque(maxlen=KEPT_COMPLAINTS)
    return Binding(trt, trt.__name__, str(trt.__version__), _logger(trt, complaints), complaints)


def find(capability: Capability) -> Binding:
    """The library that can build for the device: `tensorrt_rtx` where it knows the capability, else `tensorrt`.

    Raises HOST_LIBRARY_MISSING, or HOST_DEVICE_UNSUPPORTED when what is installed cannot build for the device."""
    seen, reasons = [], []
    for name in LIBRARIES:
        try:
            binding = wrap(importlib.import_module(name))
        except ImportError as error:
            reasons.append(f"{name}: {type(error).__name__}")
            continue
        if int(binding.version.split(".")[0]) < 10 and not binding.rtx:
            reasons.append(f"{name} {binding.version} is older than 10")
            continue
        if not binding.rtx or binding.target(capability) is not None:
            return binding
        seen.append(f"{name} {binding.version}")
    if seen:
        raise HostFailure("HOST_DEVICE_UNSUPPORTED", f"{', '.join(seen)} builds no engine for compute capability {capability[0]}.{capability[1]}; "
                          "install the package tensorrt for this card, or use the torch host", {"capability": f"{capability[0]}.{capability[1]}"})  # fmt: skip
    raise HostFailure("HOST_LIBRARY_MISSING", "expected the Python package tensorrt_rtx (RTX cards) or tensorrt 10 or later; run "
                      f"\"refit-sidecar host install tensorrt\". {'; '.join(reasons)}")  # fmt: skip
