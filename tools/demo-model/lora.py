"""LoRA layers for training. In: the demo UNet. Out: the same UNet with trainable low-rank branches, and their kohya-named tensors."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

RANK = 2
ALPHA = 1.0


class Branch(nn.Module):
    """up(down(x)) * alpha / rank, added to a frozen layer's output."""

    def __init__(self, layer: nn.Linear | nn.Conv2d) -> None:
        super().__init__()
        self.layer = layer
        out, width, *kernel = layer.weight.shape
        self.down = nn.Parameter(torch.randn(RANK, width, *kernel) / (width * max(1, len(kernel) ** 3)) ** 0.5)
        self.up = nn.Parameter(torch.zeros(out, RANK, *(1 for _ in kernel)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if isinstance(self.layer, nn.Conv2d):
            low = F.conv2d(F.conv2d(x, self.down, stride=self.layer.stride, padding=self.layer.padding), self.up)
        else:
            low = F.linear(F.linear(x, self.down), self.up)
        return self.layer(x) + low * (ALPHA / RANK)


def inject(unet: nn.Module) -> dict[str, Branch]:
    """Freezes the UNet and puts a branch on every linear and convolutional layer inside its blocks. Returns them by module path."""
    unet.requires_grad_(False)
    branches = {}
    for path, layer in list(unet.named_modules()):
        if isinstance(layer, (nn.Linear, nn.Conv2d)) and "_block" in path:
            owner, _, attribute = path.rpartition(".")
            branches[path] = Branch(layer)
            setattr(unet.get_submodule(owner), attribute, branches[path])
    return branches


def kohya_tensors(branches: dict[str, Branch]) -> dict[str, torch.Tensor]:
    """The branches as a LoRA file: `lora_unet_<path with _>.lora_up.weight`, `.lora_down.weight`, `.alpha`; f16."""
    tensors = {}
    for path, branch in branches.items():
        stem = "lora_unet_" + path.replace(".", "_")
        tensors[f"{stem}.lora_up.weight"] = branch.up.detach().half().contiguous()
        tensors[f"{stem}.lora_down.weight"] = branch.down.detach().half().contiguous()
        tensors[f"{stem}.alpha"] = torch.tensor(ALPHA).half()
    return tensors


def merge(state: dict[str, torch.Tensor], tensors: dict[str, torch.Tensor], strength: float) -> dict[str, torch.Tensor]:
    """A plain merge of a LoRA file into a diffusers state, f32: the reference for what an engine should compute."""
    merged = dict(state)
    for name, weight in state.items():
        stem = "lora_unet_" + name.removesuffix(".weight").replace(".", "_")
        if f"{stem}.lora_up.weight" in tensors and name.endswith(".weight"):
            up, down, alpha = (tensors[f"{stem}.{part}"].float() for part in ("lora_up.weight", "lora_down.weight", "alpha"))
            delta = up.flatten(1) @ down.flatten(1)
            merged[name] = weight + strength * float(alpha) / len(down) * delta.reshape(weight.shape)
    return merged
