"""What the adapter asks of the device besides memory. A stream of its own, because TensorRT serialises the default one."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from refit_host.failure import HostFailure

from .binding import Capability

Stream = torch.cuda.Stream


def capability(device: torch.device) -> Capability:
    """Raises HOST_DEVICE_UNSUPPORTED without an NVIDIA GPU."""
    if device.type != "cuda":
        raise HostFailure("HOST_DEVICE_UNSUPPORTED", "the tensorrt host needs an NVIDIA GPU and a PyTorch that sees it; use the torch host")
    return torch.cuda.get_device_capability(device)


def name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device)


def total_bytes(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).total_memory


def make_stream(device: torch.device) -> Stream | None:
    return torch.cuda.Stream(device) if device.type == "cuda" else None


def handle(stream: Stream | None) -> int:
    return 0 if stream is None else stream.cuda_stream


def current_handle(device: torch.device) -> int:
    return torch.cuda.current_stream(device).cuda_stream if device.type == "cuda" else 0


def on(stream: Stream | None) -> AbstractContextManager:
    return nullcontext() if stream is None else torch.cuda.stream(stream)


def synchronize(stream: Stream | None) -> None:
    if stream is not None:
        stream.synchronize()
