"""Work that the first load and the first step would otherwise wait for: imports of the model library, and the device's own libraries.

Runs in threads from the host's start: the import is Python's work, the device's libraries are the loader's. A maker waits for the import before it makes anything, for the rest
before its first engine steps.
"""

from __future__ import annotations

import logging
import threading
import time
from contextlib import AbstractContextManager
from typing import Callable

import torch
from torch.nn import functional

from ..weights.merge import triton_works

log = logging.getLogger("refit_host")


class WarmStart:
    """`ready` waits until nothing of the warm-up runs any more: it must not meet the capture of a CUDA graph."""

    def __init__(self, device: torch.device, importing: AbstractContextManager) -> None:
        self._device, self._held = device, importing
        self._merges: set[torch.dtype] = set()
        self._importing = self._start(self._import, "refit-warm-import")
        self._threads = [self._importing]
        if device.type == "cuda":
            self._threads.append(self._start(self._touch, "refit-warm"))

    def _start(self, work: Callable[..., None], name: str, *given: object) -> threading.Thread:
        thread = threading.Thread(target=self._timed, args=(work, name, *given), name=name, daemon=True)
        thread.start()
        return thread

    def _timed(self, work: Callable[..., None], name: str, *given: object) -> None:
        began = time.perf_counter()
        try:
            work(*given)
            log.info("%s: %.1f s", name, time.perf_counter() - began)
        except Exception as error:  # only time is lost: what was to be done ahead is done when it is needed
            log.info("%s failed: %s", name, type(error).__name__)

    def imported(self) -> None:
        """Waits for the import."""
        self._importing.join()

    def merges(self, dtype: torch.dtype) -> None:
        """Compiles the merge into weights of this dtype, beside whatever the load does next."""
        if dtype in self._merges or not triton_works(self._device):
            return
        self._merges.add(dtype)
        self._threads.append(self._start(self._compile_merge, "refit-warm-merge", dtype))

    def ready(self) -> None:
        while self._threads:
            self._threads.pop().join()

    def _compile_merge(self, dtype: torch.dtype) -> None:
        from ..weights.merge_triton import warm_up

        with torch.no_grad(), torch.cuda.stream(torch.cuda.Stream(self._device)):
            warm_up(self._device, dtype)

    def _import(self) -> None:
        with self._held:
            from ..models import registry  # noqa: F401

    def _touch(self) -> None:
        with torch.no_grad(), torch.cuda.stream(torch.cuda.Stream(self._device)):
            _touch(self._device)
            torch.cuda.current_stream(self._device).synchronize()


def _touch(device: torch.device) -> None:
    """One small call of each kind that a denoiser makes: cuBLAS, cuDNN and the attention kernels are loaded by it."""
    picture = torch.zeros(1, 320, 32, 32, dtype=torch.float16, device=device)
    for format in (torch.contiguous_format, torch.channels_last):
        kernel = torch.zeros(320, 320, 3, 3, dtype=torch.float16, device=device).to(memory_format=format)
        functional.conv2d(picture.to(memory_format=format), kernel, padding=1)
    functional.silu(functional.group_norm(picture, 32))
    tokens = functional.layer_norm(picture.flatten(2).mT.contiguous(), (320,))
    row = functional.gelu(functional.linear(tokens, torch.zeros(320, 320, dtype=torch.float16, device=device), tokens[0, 0]))
    heads = row.view(1, -1, 5, 64).transpose(1, 2)
    functional.scaled_dot_product_attention(heads, heads, heads)
