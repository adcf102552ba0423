"""A small Flux whose parameters are fused and whose last modulation is kept with exchanged halves: what the conformance suite steps and refits.

    python test/python/parity/fused.py        # writes test/hosts/golden/fused

Weights and adapters are the suite's own pseudo-random numbers (`noise` of test/hosts/fixtures.ts), so that only the graph and PyTorch's outputs are kept.
"""

from __future__ import annotations

import json
import math
import shutil
import sys
import tempfile
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "test/hosts/golden/fused"
SIZES = {"batch": 2, "height": 8, "width": 12, "tokens": 5}
STRENGTHS = (0.0, 1.0)
RANK = 2
# A whole fused matrix, one that the engine keeps exchanged, one of each other kind of block.
TOUCHED = (
    "double_blocks.0.img_attn.qkv.weight",
    "final_layer.adaLN_modulation.1.weight",
    "single_blocks.1.linear1.weight",
    "txt_in.weight",
)


def noise(seed: int, count: int) -> torch.Tensor:
    """`noise` of test/hosts/fixtures.ts: multiples of 2^-8 in [-1, 1)."""
    state, out = (seed * 2654435761) & 0xFFFFFFFF or 1, []
    for _ in range(count):
        state ^= (state << 13) & 0xFFFFFFFF
        state ^= state >> 17
        state ^= (state << 5) & 0xFFFFFFFF
        out.append(((state % 512) - 256) / 256)
    return torch.tensor(out)


def halvings(shape: tuple[int, ...]) -> int:
    """Values are divided by this power of two, so that a layer keeps the size of what goes in."""
    return round(math.log2(math.prod(shape[1:]) if len(shape) > 1 else 64) / 2)


def weights_of(shapes: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    out = {}
    for index, (name, shape) in enumerate(sorted(shapes.items())):
        out[name] = (noise(1000 + index, math.prod(shape)) / 2 ** halvings(shape)).view(shape) + (1.0 if name.endswith(".scale") else 0.0)
    return out


def merged(weights: dict[str, torch.Tensor], strength: float) -> dict[str, torch.Tensor]:
    out = dict(weights)
    for index, name in enumerate(TOUCHED):
        rows, cols = weights[name].shape
        up, down = noise(2 * index + 1, rows * RANK).view(rows, RANK), noise(2 * index + 2, RANK * cols).view(RANK, cols)
        out[name] = weights[name] + strength * 0.25 * up @ down
    return out


def compute(shapes: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    """Inputs, and diffusers' outputs for every strength as `out.N`."""
    from refit_graphs.families import plan
    from transformer_structures import through_refit_map

    model = plan(dict(shapes))
    inputs = {}
    for index, port in enumerate(model.inputs):
        shape = [SIZES.get(axis, axis) for axis in port.axes]
        inputs[port.name] = noise(500 + index, math.prod(shape)).view(shape)
    inputs["timestep"], inputs["guidance"] = torch.tensor([0.7, 0.2]), torch.tensor([3.5, 2.0])
    weights, out = weights_of(shapes), dict(inputs)
    for index, strength in enumerate(STRENGTHS):
        by_weight = through_refit_map(model, merged(weights, strength))
        module = model.build().to_empty(device="cpu")
        module.load_state_dict({name: by_weight[weight] for name, weight in model.weights.items()}, strict=True)
        with torch.no_grad():
            out[f"out.{index}"] = model.run(module, *[inputs[port.name] for port in model.inputs]).contiguous()
    return out


def main() -> None:
    from refit_graphs.bundle import export_bundle
    from safetensors.torch import save_file
    from transformer_structures import flux

    shapes = flux()
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        export_bundle(shapes, "flux-small", Path(folder) / "graph", lambda line: None)
        table = json.loads((Path(folder) / "graph" / "graph.json").read_text())
        table["variants"] = {"fp32": table["variants"]["fp32"]}
        (FOLDER / "graph.json").write_text(json.dumps(table) + "\n")
        shutil.copy(Path(folder) / "graph" / table["variants"]["fp32"], FOLDER)
    (FOLDER / "parameters.json").write_text(json.dumps(dict(sorted(shapes.items()))) + "\n")
    save_file(compute(shapes), FOLDER / "steps.safetensors")


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT / "sidecar/hosts/python"), str(ROOT), str(ROOT / "test/python/hosts/refit_graphs")]
    main()
