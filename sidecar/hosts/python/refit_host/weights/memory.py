"""Device memory: what is free under the cap, what this process holds, and where the pristine base fits."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .base import Place
from .host_memory import free_bytes as host_free_bytes


@dataclass(frozen=True)
class Budget:
    """`device_free`: bytes that may still be allocated under the cap; `host_free`: host memory that may be pinned."""

    device_free: int
    host_free: int


def device_budget(device: torch.device, cap_bytes: int | None) -> Budget:
    """Free memory now. PyTorch's own cached blocks count as free."""
    if device.type != "cuda":
        return Budget(host_free_bytes(), host_free_bytes())
    free, _ = torch.cuda.mem_get_info(device)
    free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    if cap_bytes is not None:
        free = min(free, cap_bytes - torch.cuda.memory_allocated(device))
    return Budget(max(0, free), host_free_bytes())


def most_bytes(device: torch.device, cap_bytes: int | None) -> int:
    """What this process could take if no other held anything."""
    if device.type != "cuda":
        return host_free_bytes()
    total = torch.cuda.get_device_properties(device).total_memory
    return total if cap_bytes is None else min(total, cap_bytes)


def apply_cap(device: torch.device, cap_bytes: int | None) -> None:
    """Makes PyTorch refuse to grow past the cap, so that the UI's share of the card stays the UI's."""
    if device.type == "cuda" and cap_bytes is not None:
        total = torch.cuda.get_device_properties(device).total_memory
        # PyTorch takes no device without a number here.
        torch.cuda.set_per_process_memory_fraction(
            min(1.0, cap_bytes / total), torch.cuda.current_device() if device.index is None else device.index
        )


def choose_place(budget: Budget, weight_bytes: int, activation_bytes: int, *, live_is_allocated: bool) -> Place:
    """Resident when two copies and a step fit on the device; pinned when host memory holds a copy; else file."""
    live = 0 if live_is_allocated else weight_bytes
    if budget.device_free >= live + weight_bytes + activation_bytes:
        return "resident"
    return "pinned" if budget.host_free >= weight_bytes else "file"
