"""Which attention kernel long sequences take. PyTorch tries FlashAttention 2 first, also where cuDNN's kernel is faster (Hopper and newer).

Measured once per width of a head on the device at hand; the choice holds for the process.
"""

from __future__ import annotations

import logging
from typing import Any, Callable, Mapping

import torch
from refit_graphs.descriptions import descriptions
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..device_time import device_milliseconds

log = logging.getLogger("refit_host")
ORDERS: dict[str, list[Any]] = {
    "flash": [SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH],
    "cudnn": [SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH],
}
TOKENS = 4608
# Another order must win by this much.
MARGIN = 0.95
_chosen: dict[int, str] = {}


def prefer_fastest(family: str, config: Mapping[str, Any], device: torch.device) -> str:
    """Puts the fastest kernel first for steps of this structure; returns its name, `default` where nothing is changed."""
    if (
        device.type != "cuda"
        or torch.version.hip is not None
        or descriptions()[family]["defaults"].get("attention") != "measured"
        or torch.cuda.get_device_capability(device) < (9, 0)
    ):
        return "default"
    heads = int(config.get("num_attention_heads") or config["n_heads"])
    width = int(config.get("attention_head_dim") or config["dim"] // heads)
    if width not in _chosen:
        _chosen[width] = choose(lambda name: _measure(name, heads, width, device))
    # Entered and never left: the order is the process's, and every thread's steps and compilations must agree.
    sdpa_kernel(ORDERS[_chosen[width]], set_priority=True).__enter__()
    return _chosen[width]


def choose(measure: Callable[[str], float]) -> str:
    """The faster order by `measure` (ms); flash when cuDNN fails or gains nothing."""
    plain = measure("flash")
    try:
        other = measure("cudnn")
    except RuntimeError as error:
        log.info("cuDNN's attention does not run here (%s)", str(error).splitlines()[0][:200] if str(error) else type(error).__name__)
        return "flash"
    log.info("attention over %d tokens: flash %.2f ms, cuDNN %.2f ms", TOKENS, plain, other)
    return "cudnn" if other < MARGIN * plain else "flash"


def _measure(name: str, heads: int, width: int, device: torch.device) -> float:
    query, key, value = (torch.randn(1, TOKENS, heads, width, device=device, dtype=torch.bfloat16).transpose(1, 2) for _ in range(3))
    with sdpa_kernel(ORDERS[name][:1]):
        return device_milliseconds(lambda: functional.scaled_dot_product_attention(query, key, value))
