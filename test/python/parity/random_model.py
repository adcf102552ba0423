"""A random checkpoint and a random LoRA of a structure, as files in the layouts that users have.

    python random_model.py --graph sidecar/graphs/sd15/graph.json --out DIR [--shrink]

Writes DIR/checkpoint.safetensors (F16, LDM names) and DIR/lora.safetensors (F16, kohya names, every attention and feed-forward layer, rank 8, alpha 4).
`--shrink` divides every width by five and keeps two transformer blocks per place: a small network with the inputs of the large one.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint
from safetensors.torch import save_file

RANK, ALPHA = 8, 4.0
PREFIX = "model.diffusion_model."


def shapes_of(graph: dict, shrink: bool) -> dict[str, list[int]]:
    shapes = {row["parameter"]: row["shape"] for row in graph["refitMap"]}
    if not shrink:
        return shapes
    kept = {name: shape for name, shape in shapes.items() if not re.search(r"transformer_blocks\.([2-9]|\d\d)\.", name)}
    return {name: [size // 5 if size % 320 == 0 else size for size in shape] for name, shape in kept.items()}


def small_config(config: dict) -> dict:
    """The diffusers configuration of the shrunken network."""
    widths = [width // 5 for width in config["block_out_channels"]]
    return config | {
        "block_out_channels": widths,
        "transformer_layers_per_block": [min(2, depth) for depth in config["transformer_layers_per_block"]],
        "reverse_transformer_layers_per_block": [min(2, depth) for depth in config["reverse_transformer_layers_per_block"]],
        "attention_head_dim": [max(1, width // 64) for width in widths],
    }


def tensor(name: str, shape: list[int], generator: torch.Generator) -> torch.Tensor:
    if len(shape) == 1:
        # Norm weights around one, biases around zero: activations then keep their size through the network.
        centre = 1.0 if name.endswith(".weight") else 0.0
        return (centre + 0.05 * torch.randn(shape, generator=generator)).half()
    fan_in = torch.Size(shape[1:]).numel()
    return (torch.randn(shape, generator=generator) / fan_in**0.5).half()


def lora(names: list[str], state: dict[str, torch.Tensor], generator: torch.Generator) -> dict[str, torch.Tensor]:
    tensors = {}
    for name in names:
        rows, *rest = state[f"{name}.weight"].shape
        key = "lora_unet_" + name.replace(".", "_")
        cols = rest[0]
        kernel = rest[1:]
        tensors[f"{key}.lora_down.weight"] = (torch.randn(RANK, cols, *kernel, generator=generator) / cols**0.5).half()
        tensors[f"{key}.lora_up.weight"] = (torch.randn(rows, RANK, *([1] * len(kernel)), generator=generator) / RANK**0.5).half()
        tensors[f"{key}.alpha"] = torch.tensor(ALPHA)
    return tensors


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--graph", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--shrink", action="store_true")
    arguments = parser.parse_args()
    graph = json.loads(arguments.graph.read_text())
    config = small_config(graph["config"]) if arguments.shrink else graph["config"]
    generator = torch.Generator().manual_seed(7)
    state = {name: tensor(name, shape, generator) for name, shape in shapes_of(graph, arguments.shrink).items()}
    arguments.out.mkdir(parents=True, exist_ok=True)
    save_file({PREFIX + name: value for name, value in state.items()}, arguments.out / "checkpoint.safetensors")

    (arguments.out / "config.json").write_text(json.dumps(config))
    # Names of adaptable layers come from diffusers alone: its converter (which knows one number of residual blocks for all levels) and its own module list.
    config["layers_per_block"] = config["layers_per_block"][0]
    with torch.device("meta"):
        unet = UNet2DConditionModel(**config)
    converted = convert_ldm_unet_checkpoint({PREFIX + name: value for name, value in state.items()}, config=config)
    adaptable = [
        name for name, module in unet.named_modules() if "attentions" in name and isinstance(module, torch.nn.Linear | torch.nn.Conv2d)
    ]
    save_file(lora(adaptable, converted, generator), arguments.out / "lora.safetensors")
    print(json.dumps({"ok": True, "parameters": len(state), "adapted": len(adaptable)}))


if __name__ == "__main__":
    main()
