"""Fused blocks for an engine, proved at its load: one small step against the engine's plain module over the same weights."""

from __future__ import annotations

import logging
import time
from typing import Callable, Mapping

import torch
from torch import Tensor

from ..distance import relative_error
from ..fused.passes import Operations
from ..models.spec import ModelSpec

log = logging.getLogger("refit_host")


def fused_module(
    spec: ModelSpec, make: Callable[[], torch.nn.Module], operations: Operations, inputs: Mapping[str, Tensor], tolerance: float
) -> tuple[torch.nn.Module | None, str | None]:  # fmt: skip
    """(another module with the family's fused blocks, None); (None, why) where they fail or give another output here, (None, None) where the family has none. Its
    first use compiles the kernels (seconds, once per computer)."""
    if spec.fuse is None:
        return None, None
    began = time.perf_counter()
    try:
        with torch.no_grad():
            expected = spec.forward(make(), inputs)
            module = spec.fuse(make(), operations)
            got = spec.forward(module, inputs)
        error = relative_error(got, expected)
    except Exception as failure:  # a kernel compiler may fail in any way; the plain module goes on serving
        reason = f"{type(failure).__name__}: {str(failure).splitlines()[0][:200] if str(failure) else 'no message'}"
        log.warning("fused blocks do not run here (%s); steps stay as they are", reason)
        return None, reason
    # Weights of zeros give nothing to compare, and nothing to spoil.
    if not error < tolerance and bool(expected.any() or got.any()):
        log.warning("fused blocks give an output that differs by %.3g; steps stay as they are", error)
        return None, f"the output differs by {error:.3g}"
    log.info("fused blocks serve (output differs by %.2g; %.1f s)", error, time.perf_counter() - began)
    return module, None
