"""Quantised checkpoints with a LoRA in a real ComfyUI 0.33: the stock workflow, served by an engine in the file's own number format.

Three pictures of each: of the weights in f32 (what is meant), ComfyUI's own, and the engine's. The engine may be as far from what is meant as ComfyUI's rounding is.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from comfy_run import Run, rms
from graphs import Choices
from narrow_models import comfyui_with, torch_sidecar
from safetensors.torch import save_file
from small_files import adapter_factors, checkpoint_values, matrices, write_adapter

NAME = "qwen-image"
PLAIN = Choices(folder="diffusion_models", channels=16, context=40, tokens=20, size=128)
STRENGTH = 0.8
# Format -> (ComfyUI's name of it, largest code, dtype of the codes).
FORMATS = {"fp8": ("float8_e4m3fn", 448.0, torch.float8_e4m3fn), "int8": ("int8_tensorwise", 127.0, torch.int8)}

pytestmark = pytest.mark.skipif(
    not (Path(os.environ.get("COMFYUI_DIR", ".")) / "comfy" / "quant_ops.py").exists()
    or "int8_tensorwise" not in (Path(os.environ["COMFYUI_DIR"]) / "comfy" / "quant_ops.py").read_text(encoding="utf-8"),
    reason="this ComfyUI does not read these formats: it takes 0.33",
)


def coded(value: torch.Tensor, kind: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes and their one scale."""
    _, limit, dtype = FORMATS[kind]
    scale = value.abs().amax() / limit
    quotient = value / scale
    return (quotient.round() if dtype == torch.int8 else quotient).clamp(-limit, limit).to(dtype), scale


def write_files(folder: Path, kind: str) -> None:
    """The quantised checkpoint; its values in f32; and those with the LoRA added in f32."""
    quantised, meant, changed = {}, {}, {}
    inside = frozenset(
        key
        for key, value in checkpoint_values(NAME).items()
        if value.dim() == 2 and "transformer_blocks." in key and min(value.shape) >= 32
    )
    assert len(inside) > 8 and inside & frozenset(matrices(NAME))
    factors = adapter_factors(NAME, 1)
    for key, value in checkpoint_values(NAME).items():
        quantised[key] = meant[key] = value
        if key in inside:
            stem = key.removesuffix("weight")
            codes, scale = coded(value.float(), kind)
            text = json.dumps({"format": FORMATS[kind][0]}).encode()
            quantised |= {key: codes, f"{stem}weight_scale": scale, f"{stem}comfy_quant": torch.tensor(list(text), dtype=torch.uint8)}
            meant[key] = codes.float() * scale
        changed[key] = meant[key] + STRENGTH * (factors[key][0] @ factors[key][1]) if key in factors else meant[key]
    for name, values in ((kind, quantised), (f"{kind}-meant", meant), (f"{kind}-changed", changed)):
        save_file(values, folder / f"{name}.safetensors")


@pytest.fixture(scope="module", params=FORMATS)
def served(request, tmp_path_factory):
    """(format, server) with a sidecar whose engines hold that format."""
    kind = request.param
    folder = tmp_path_factory.mktemp(kind)
    models = folder / "models" / "diffusion_models"
    models.mkdir(parents=True)
    write_files(models, kind)
    write_adapter(folder / "models" / "loras", NAME, 1)
    with torch_sidecar(folder, kind) as sidecar, comfyui_with(sidecar) as server:
        yield kind, server


def test_the_engine_is_no_farther_from_what_is_meant_than_comfyuis_rounding(served, tmp_path):
    kind, server = served
    run = Run(server, tmp_path)
    choices = replace(PLAIN, checkpoint=f"{kind}.safetensors")
    with_adapter = replace(choices, adapters=[(f"{NAME}-1.safetensors", STRENGTH)])
    meant_base = run(replace(choices, loader="CheckpointLoaderSimple", checkpoint=f"{kind}-meant.safetensors"))
    meant = run(replace(choices, loader="CheckpointLoaderSimple", checkpoint=f"{kind}-changed.safetensors"))
    own_base, base = run.both(choices)
    own, engine = run.both(with_adapter)
    effect = rms(meant - meant_base)
    figures = {
        "effect": effect,
        "own base": rms(own_base - meant_base), "engine base": rms(base - meant_base),
        "own": rms(own - meant), "engine": rms(engine - meant), "engine - own": rms(engine - own),
    }  # fmt: skip
    print(kind, {name: f"{value:.3g}" for name, value in figures.items()})
    assert torch.isfinite(engine).all() and effect > 0
    # Without an adapter both hold the file's own values: what is between them is arithmetic, the engine's in bf16, ComfyUI's in f32 for fp8 and in its own way for int8.
    arithmetic = figures["engine base"]
    assert figures["own base"] < 0.03 * rms(meant_base) and arithmetic < 0.03 * rms(meant_base)
    assert figures["engine"] <= 1.5 * figures["own"] + arithmetic
    assert figures["engine - own"] <= figures["engine"] + figures["own"]
    # A -> none -> A.
    assert torch.equal(run(replace(choices, loader="RefitLoadEngine")), base)
    assert torch.equal(run(replace(with_adapter, loader="RefitLoadEngine")), engine)
