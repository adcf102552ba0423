"""A run's conditioning where its steps need it.

ComfyUI keeps conditioning on the processor. In every step it joins the texts of all passes there and copies the result to the device. A step on the
processor's clock hides that behind the device's work; a step that waits for an engine does not: 8 ms of SDXL's 43 on a card.
"""

from __future__ import annotations

from typing import Any

import torch


def on_device(conds: dict[str, list[dict[str, Any]]], device: torch.device) -> dict[str, list[dict[str, Any]]]:
    """Processed conditioning by kind, with the tensors of its `model_conds` on `device`. Entries and objects that change are copies: other runs of the
    prompt share them. Joining copies gives the bits that copying a joined tensor gives.
    """
    return {kind: [_entry(entry, device) for entry in entries] for kind, entries in conds.items()}


def _entry(entry: dict[str, Any], device: torch.device) -> dict[str, Any]:
    model_conds = entry.get("model_conds")
    if not model_conds:
        return entry
    return {**entry, "model_conds": {name: _placed(cond, device) for name, cond in model_conds.items()}}


def _placed(cond: Any, device: torch.device) -> Any:
    value: Any = getattr(cond, "cond", None)
    if isinstance(value, torch.Tensor):
        moved: Any = value.to(device)
    elif isinstance(value, list) and value and all(isinstance(one, torch.Tensor) for one in value):
        moved = [one.to(device) for one in value]
    else:
        return cond
    return cond._copy_with(moved)
