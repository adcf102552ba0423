"""Work that the first load and the first step would otherwise wait for: imports of the model library, and the device's own libraries.

Runs in a thread from the host's start; a maker joins it before its first engine steps.
"""

from __future__ import annotations

import logging
import threading
import time

import torch
from torch.nn import functional

from ..weights.merge import triton_works

log = logging.getLogger("refit_host")


class WarmStart:
    """`ready` waits until nothing of the warm-up runs any more: it must not meet the capture of a CUDA graph."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._merges: set[torch.dtype] = set()
        self._threads = [threading.Thread(target=self._run, name="refit-warm", daemon=True)]
        self._threads[0].start()

    def merges(self, dtype: torch.dtype) -> None:
        """Compiles the merge into weights of this dtype, beside whatever the load does next."""
        if dtype in self._merges or not triton_works(self._device):
            return
        self._merges.add(dtype)
        self._threads.append(threading.Thread(target=self._compile_merge, args=(dtype,), name="refit-warm-merge", daemon=True))
        self._threads[-1].start()

    def ready(self) -> None:
        while self._threads:
            self._threads.pop().join()

    def _compile_merge(self, dtype: torch.dtype) -> None:
        try:
            from ..weights.merge_triton import warm_up

            with torch.no_grad(), torch.cuda.stream(torch.cuda.Stream(self._device)):
                warm_up(self._device, dtype)
        except Exception as error:  # only time is lost: the first refit compiles
            log.info("compiling the merge ahead failed: %s", type(error).__name__)

    def _run(self) -> None:
        began = time.perf_counter()
        try:
            if self._device.type == "cuda":
                with torch.no_grad(), torch.cuda.stream(torch.cuda.Stream(self._device)):
                    _touch(self._device)
                    torch.cuda.current_stream(self._device).synchronize()
            from ..models import registry  # noqa: F401

            log.info("libraries are warm after %.1f s", time.perf_counter() - began)
        except Exception as error:  # only time is lost
            log.info("warming up failed: %s", type(error).__name__)


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
