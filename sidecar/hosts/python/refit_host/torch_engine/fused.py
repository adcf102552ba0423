"""Fused blocks for an engine, proved at its load: one small step against the engine's plain module over the same weights."""

from __future__ import annotations

import logging
import time
from typing import Callable, Mapping

import torch
from torch import Tensor

from ..distance import relative_error
from ..fused.operations import Operations
from ..models.spec import ModelSpec

log = logging.getLogger("refit_host")


def fused_module(
    spec: ModelSpec, make: Callable[[], torch.nn.Module], operations: Operations, inputs: Mapping[str, Tensor], tolerance: float
) -> torch.nn.Module | None:  # fmt: skip
    """Another module with the family's fused blocks; None where it has none, or where they fail or give another output here. Its first
    use compiles the kernels (seconds, once per computer)."""
    if spec.fuse is None:
        return None
    began = time.perf_counter()
    try:
        with torch.no_grad():
            expected = spec.forward(make(), inputs)
            module = spec.fuse(make(), operations)
            got = spec.forward(module, inputs)
        error = relative_error(got, expected)
    except Exception as failure:  # a kernel compiler may fail in any way; the plain module goes on serving
        log.warning("fused blocks do not run here (%s: %s); steps stay as they are", type(failure).__name__, str(failure).splitlines()[0][:200] if str(failure) else "")
        return None
    # Weights of zeros give nothing to compare, and nothing to spoil.
    if not error < tolerance and bool(expected.any() or got.any()):
        log.warning("fused blocks give an output that differs by %.3g; steps stay as they are", error)
        return None
    log.info("fused blocks serve (output differs by %.2g; %.1f s)", error, time.perf_counter() - began)
    return module
