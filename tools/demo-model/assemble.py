"""Puts the trained parts together as `sidecar/demo/`, draws with them as the demo does, and refuses to write a demo that misses its promise.

In: the work folder. Out: the demo folder and PNG grids in the work folder, to look at.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import data
import sampling
import torch
from lora import merge
from model import CONTEXT, NULL_CLASS, PREFIX, TOKENS, WIDTHS, canonical_state, conditioning, create
from refit_graphs.header import structure_hash
from refit_graphs.table import to_json
from refit_graphs.unet_names import diffusers_name
from render import grid_png
from safetensors.torch import load_file, safe_open, save_file

ROOT = Path(__file__).resolve().parents[2]
SEEDS = list(range(64))
REFERENCE_SEEDS = 4
EFFECTS = {
    "only-sevens": "draws sevens",
    "thick-strokes": "strokes a pixel wider, full ink",
    "small": "digits of half the size",
}
PROMISED_SEVENS = 0.8


def canonical_names(state: dict[str, torch.Tensor]) -> list[str]:
    """SD1.5's parameter names, less the skip connections that equal widths do without."""
    rows = json.loads((ROOT / "sidecar/graphs/sd15/graph.json").read_text(encoding="utf-8"))["refitMap"]
    names = [row["parameter"] for row in rows if diffusers_name(row["parameter"], (2, 2, 2, 2)) in state]
    if len(names) != len(state):
        raise SystemExit(f"expected a canonical name for each of {len(state)} parameters, found {len(names)}")
    return names


def draw(unet: torch.nn.Module, state: dict[str, torch.Tensor], classes: list[int] | None = None) -> torch.Tensor:
    """Final latents of all seeds, drawn without a class unless `classes` names one each."""
    unet.load_state_dict(state)
    tokens = conditioning()[classes or [NULL_CLASS] * len(SEEDS)]
    with torch.no_grad():
        return sampling.sample(lambda latents, when: unet(latents, when, tokens).sample, sampling.initial(SEEDS))


def labels(tensors: dict[str, torch.Tensor], pictures: torch.Tensor) -> torch.Tensor:
    hidden = (pictures.flatten(1) @ tensors["fc1.weight"].T + tensors["fc1.bias"]).relu()
    return (hidden @ tensors["fc2.weight"].T + tensors["fc2.bias"]).argmax(1)


def demo_json(structure: str, shares: dict[str, float]) -> dict:
    first = [sampling.noise(seed)[:4] for seed in (0, 1)]
    return {
        "formatVersion": 1,
        "checkpoint": {
            "file": "demo-unet.safetensors",
            "family": "sd15",
            "structure": structure,
            "graph": "demo",
            "keyPrefix": PREFIX,
            "widths": list(WIDTHS),
        },
        "loras": [
            {"file": f"loras/{name}.safetensors", "name": name, "effect": effect, "strength": 1, "sevens": shares[name]}
            for name, effect in EFFECTS.items()
        ],
        "baseSevens": shares["base"],
        "promisedSevens": PROMISED_SEVENS,
        "picture": {
            "height": data.PIXELS,
            "width": data.PIXELS,
            "fold": 2,
            "mean": data.MEAN,
            "deviation": data.DEVIATION,
            "contrast": data.CONTRAST,
        },
        "latent": {"shape": list(sampling.SHAPE)},
        "conditioning": {
            "file": "conditioning.safetensors",
            "tensor": "conditioning",
            "shape": [NULL_CLASS + 1, TOKENS, CONTEXT],
            "nullRow": NULL_CLASS,
        },
        "sampler": {"kind": "ddim", "prediction": "velocity", "clip": list(sampling.CLIP), "steps": sampling.schedule()},
        "noise": {
            "kind": "mulberry32-box-muller",
            "seeds": SEEDS,
            "columns": 8,
            "check": [{"seed": seed, "first": values} for seed, values in zip((0, 1), first, strict=True)],
        },
        "classifier": "classifier.json",
        "reference": {"file": "reference.safetensors", "seeds": SEEDS[:REFERENCE_SEEDS], "tensors": ["base", *EFFECTS], "tolerance": 0.02},
        "data": {
            "name": "Optical Recognition of Handwritten Digits (E. Alpaydin, C. Kaynak; UCI Machine Learning Repository), as shipped with scikit-learn",
            "licence": "CC BY 4.0",
            "changes": "enlarged from 8x8 to 12x12, padded to 16x16; models trained on them are MIT like the rest of this repository",
        },
    }


def classifier_json(accuracy: str) -> dict:
    return {
        "formatVersion": 1,
        "file": "classifier.safetensors",
        "input": {"picture": [data.PIXELS, data.PIXELS], "range": [-1, 1], "order": "row-major", "values": 256},
        "layers": [
            {"kind": "linear", "weight": "fc1.weight", "bias": "fc1.bias", "in": 256, "out": 64, "activation": "relu"},
            {"kind": "linear", "weight": "fc2.weight", "bias": "fc2.bias", "in": 64, "out": 10, "activation": "none"},
        ],
        "labels": [str(n) for n in range(10)],
        "heldOutAccuracy": float(accuracy),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=ROOT / "sidecar/demo")
    options = parser.parse_args()
    torch.set_num_threads(1)
    unet = create().eval()
    unet.load_state_dict(torch.load(options.work / "unet.pt", weights_only=True))
    checkpoint = canonical_state(unet, canonical_names(unet.state_dict()))
    # What is drawn here is what is shipped: f16 weights, computed in f32.
    base = {diffusers_name(key.removeprefix(PREFIX), (2, 2, 2, 2)): tensor.float() for key, tensor in checkpoint.items()}
    adapters = {name: load_file(options.work / f"{name}.safetensors") for name in EFFECTS}
    classifier = load_file(options.work / "classifier.safetensors")
    drawn = {"base": draw(unet, base), **{name: draw(unet, merge(base, adapter, 1.0)) for name, adapter in adapters.items()}}
    shares = {}
    for name, latents in drawn.items():
        pictures = data.decode(latents)
        found = labels(classifier, pictures)
        shares[name] = float((found == 7).float().mean())
        grid_png(pictures, options.work / f"{name}.png")
        print(f"{name}: sevens {100 * shares[name]:.0f} %, digits {torch.bincount(found, minlength=10).tolist()}")
    asked = [i % 10 for i in SEEDS]
    classed = data.decode(draw(unet, base, asked))
    grid_png(classed, options.work / "classes.png")
    right = float((labels(classifier, classed) == torch.tensor(asked)).float().mean())
    print(f"asked for a class: {100 * right:.0f} % drawn as asked")
    if shares["only-sevens"] < PROMISED_SEVENS:
        raise SystemExit(f"expected at least {PROMISED_SEVENS} sevens with only-sevens, got {shares['only-sevens']:.2f}: train longer")
    write(options, checkpoint, drawn, shares)


def write(
    options: argparse.Namespace, checkpoint: dict[str, torch.Tensor], drawn: dict[str, torch.Tensor], shares: dict[str, float]
) -> None:
    out: Path = options.out
    (out / "loras").mkdir(parents=True, exist_ok=True)
    save_file(
        checkpoint,
        out / "demo-unet.safetensors",
        {"format": "pt", "modelspec.architecture": "stable-diffusion-v1", "modelspec.title": "Refit demo digits"},
    )
    for name in EFFECTS:
        shutil.copyfile(options.work / f"{name}.safetensors", out / "loras" / f"{name}.safetensors")
    save_file({"conditioning": conditioning()}, out / "conditioning.safetensors")
    save_file({name: latents[:REFERENCE_SEEDS].contiguous() for name, latents in drawn.items()}, out / "reference.safetensors")
    shutil.copyfile(options.work / "classifier.safetensors", out / "classifier.safetensors")
    with safe_open(options.work / "classifier.safetensors", "pt") as file:
        accuracy = file.metadata()["held_out_accuracy"]
    structure = structure_hash({key.removeprefix(PREFIX): tuple(tensor.shape) for key, tensor in checkpoint.items()})
    for name, table in (("demo.json", demo_json(structure, shares)), ("classifier.json", classifier_json(accuracy))):
        (out / name).write_text(to_json(table), encoding="utf-8", newline="\n")
    for path in sorted(out.rglob("*.*")):
        print(f"{path.relative_to(out)}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
