"""Inputs of a step as a UI sends them. In: a model's ports. Out: random tensors of small, uneven sizes."""

from __future__ import annotations

import torch
from torch import Tensor

SIZES = {"batch": 2, "frames": 1, "height": 12, "width": 16, "tokens": 9}


def inputs_of(spec, *, optional: bool = False, batch: int = 2, sizes: dict[str, int] | None = None) -> dict[str, Tensor]:
    """A step as a UI sends it; with `optional` two reference latents of other sizes and a mask that leaves words out."""
    make = torch.Generator().manual_seed(3)
    known = {**SIZES, "batch": batch, **(sizes or {})}
    out = {}
    for port in spec.ports.inputs:
        name = port["name"]
        number = int(name.rsplit("_", 1)[1]) if name.startswith("reference_latents_") else None
        if port.get("optional") and (not optional or (number or 0) > 1):
            continue
        if number is not None:
            known |= {f"references_{number}": 1, f"frames_{number}": 1, f"height_{number}": 8 - 4 * number, f"width_{number}": 8}
        out[name] = torch.randn([known.get(axis, axis) for axis in port["shape"]], generator=make)
    out["timestep"] = torch.linspace(0.8, 0.3, batch)
    if "guidance" in out:
        out["guidance"] = torch.full((batch,), 4.0)
    if "attention_mask" in out:
        out["attention_mask"] = torch.ones_like(out["attention_mask"])
        out["attention_mask"][-1, 6:] = 0
    return out
