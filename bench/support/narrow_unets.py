"""Checkpoints of several structures and adapters for each, small enough for many engines on one computer: `python narrow_unets.py FOLDER STRUCTURES ADAPTERS`.

The demo's UNet with other widths and random values. Writes FOLDER/checkpoints/unet-N.safetensors and FOLDER/loras/unet-N-lora-M.safetensors.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from safetensors import safe_open
from safetensors.torch import save_file

root = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(root / "sidecar/hosts/python"))
from refit_graphs.unet_names import diffusers_name  # noqa: E402

PREFIX = "model.diffusion_model."
# Names are the demo's, so the width changes where the demo's does. Attention has heads of 8, group norms 32 groups.
WIDTHS = ((32, 64, 64, 64), (64, 32, 32, 32), (32, 96, 96, 96), (64, 96, 96, 96), (96, 64, 64, 64))
RANK = 4


def main() -> None:
    folder, structures, adapters = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    with safe_open(root / "sidecar/demo/demo-unet.safetensors", "pt") as demo:
        names = [key.removeprefix(PREFIX) for key in demo.keys() if key.startswith(PREFIX)]
    for number, widths in enumerate(WIDTHS[:structures]):
        torch.manual_seed(number)
        state = UNet2DConditionModel(
            sample_size=8, block_out_channels=widths, cross_attention_dim=768, attention_head_dim=8, layers_per_block=2
        ).state_dict()
        own = {name: diffusers_name(name, (2, 2, 2, 2)) for name in names}
        save_file(
            {PREFIX + name: state[other].contiguous() for name, other in own.items()}, folder / f"checkpoints/unet-{number}.safetensors"
        )
        matrices = [other for other in own.values() if ".attn" in other and other.endswith("weight") and state[other].dim() == 2]
        for adapter in range(adapters):
            tensors: dict[str, torch.Tensor] = {}
            for name in matrices:
                rows, columns = state[name].shape
                stem = "lora_unet_" + name.removesuffix(".weight").replace(".", "_")
                tensors[f"{stem}.lora_down.weight"] = torch.randn(RANK, columns) * 0.3
                tensors[f"{stem}.lora_up.weight"] = torch.randn(rows, RANK) * 0.3
                tensors[f"{stem}.alpha"] = torch.tensor(float(RANK))
            save_file(tensors, folder / f"loras/unet-{number}-lora-{adapter}.safetensors")


if __name__ == "__main__":
    main()
