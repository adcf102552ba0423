"""The shipped demo, drawn from `demo.json` and docs/develop/demo-model.md alone, with numpy and ONNX Runtime: no training code, no torch.

What the TypeScript demo does must follow from the same page, so a number that is missing there fails here first.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from safetensors.numpy import load_file

ROOT = Path(__file__).resolve().parents[4]
DEMO = ROOT / "sidecar/demo"
TABLE = json.loads((DEMO / "demo.json").read_text(encoding="utf-8"))
GRAPH = ROOT / "sidecar/graphs" / TABLE["checkpoint"]["graph"]
BUNDLE = json.loads((GRAPH / "graph.json").read_text(encoding="utf-8"))
U32 = 0xFFFFFFFF


def noise(seed: int, count: int) -> np.ndarray:
    state, values = seed, []

    def imul(a: int, b: int) -> int:
        return (a * b) & U32

    def uniform() -> float:
        nonlocal state
        state = (state + 0x6D2B79F5) & U32
        t = imul(state ^ (state >> 15), state | 1)
        t ^= (t + imul(t ^ (t >> 7), t | 61)) & U32
        return (t ^ (t >> 14)) / 2**32

    while len(values) < count:
        u, v = uniform(), uniform()
        radius = math.sqrt(-2 * math.log(1 - u))
        values += [radius * math.cos(2 * math.pi * v), radius * math.sin(2 * math.pi * v)]
    return np.array(values, np.float64)


def base_weights() -> dict[str, np.ndarray]:
    prefix = TABLE["checkpoint"]["keyPrefix"]
    return {name.removeprefix(prefix): tensor.astype(np.float32) for name, tensor in load_file(DEMO / TABLE["checkpoint"]["file"]).items()}


def with_lora(weights: dict[str, np.ndarray], file: str, strength: float) -> dict[str, np.ndarray]:
    from refit_graphs.unet_names import diffusers_name

    adapter = load_file(DEMO / file)
    merged, used = dict(weights), 0
    for name, weight in weights.items():
        stem = "lora_unet_" + diffusers_name(name, (2, 2, 2, 2)).removesuffix(".weight").replace(".", "_")
        if name.endswith(".weight") and f"{stem}.lora_up.weight" in adapter:
            up, down, alpha = (adapter[f"{stem}.{part}"].astype(np.float32) for part in ("lora_up.weight", "lora_down.weight", "alpha"))
            delta = up.reshape(len(up), -1) @ down.reshape(len(down), -1)
            merged[name] = weight + strength * float(alpha) / len(down) * delta.reshape(weight.shape)
            used += 3
    assert used == len(adapter), "every key of the LoRA has its parameter"
    return merged


def draw(weights: dict[str, np.ndarray], seeds: list[int]) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(GRAPH / BUNDLE["variants"]["fp32"]), options, providers=["CPUExecutionProvider"])
    shape = TABLE["latent"]["shape"]
    latents = np.stack([noise(seed, math.prod(shape)).reshape(shape) for seed in seeds]).astype(np.float32)
    tokens = load_file(DEMO / TABLE["conditioning"]["file"])[TABLE["conditioning"]["tensor"]]
    context = np.repeat(tokens[TABLE["conditioning"]["nullRow"]][None], len(seeds), 0)
    low, high = TABLE["sampler"]["clip"]
    for row in TABLE["sampler"]["steps"]:
        now, after = (np.float32(row[key]) for key in ("alpha", "alphaNext"))
        when = np.full(len(seeds), row["timestep"], np.float32)
        velocity = session.run(None, weights | {"sample": latents, "timestep": when, "encoder_hidden_states": context})[0]
        clean = np.clip(np.sqrt(now) * latents - np.sqrt(1 - now) * velocity, low, high)
        direction = (latents - np.sqrt(now) * clean) / np.sqrt(1 - now)
        latents = np.sqrt(after) * clean + np.sqrt(1 - after) * direction
    return latents


def pictures(latents: np.ndarray) -> np.ndarray:
    options = TABLE["picture"]
    out = np.zeros((len(latents), options["height"], options["width"]), np.float32)
    for channel in range(4):
        out[:, channel // 2 :: 2, channel % 2 :: 2] = latents[:, channel]
    return np.clip((out * options["deviation"] + options["mean"]) * options["contrast"], -1, 1)


def labels(drawn: np.ndarray) -> np.ndarray:
    table = json.loads((DEMO / TABLE["classifier"]).read_text(encoding="utf-8"))
    tensors = load_file(DEMO / table["file"])
    values = drawn.reshape(len(drawn), -1)
    assert values.shape[1] == table["input"]["values"]
    for layer in table["layers"]:
        values = values @ tensors[layer["weight"]].T + tensors[layer["bias"]]
        values = np.maximum(values, 0) if layer["activation"] == "relu" else values
    return values.argmax(1)


def test_noise_matches_its_check_values():
    for check in TABLE["noise"]["check"]:
        assert np.allclose(noise(check["seed"], 4), check["first"], rtol=1e-12)


@pytest.mark.parametrize("name", TABLE["reference"]["tensors"])
def test_latents_equal_the_reference(name):
    loras = {lora["name"]: lora for lora in TABLE["loras"]}
    weights = base_weights() if name == "base" else with_lora(base_weights(), loras[name]["file"], loras[name]["strength"])
    got = draw(weights, TABLE["reference"]["seeds"])
    want = load_file(DEMO / TABLE["reference"]["file"])[name]
    assert np.abs(got - want).max() < TABLE["reference"]["tolerance"]


def test_only_sevens_gives_the_promised_share_and_the_base_does_not():
    seeds = TABLE["noise"]["seeds"]
    lora = next(lora for lora in TABLE["loras"] if lora["name"] == "only-sevens")
    share = {}
    for name, weights in {"base": base_weights(), "lora": with_lora(base_weights(), lora["file"], lora["strength"])}.items():
        share[name] = float((labels(pictures(draw(weights, seeds))) == 7).mean())
    assert share["lora"] >= TABLE["promisedSevens"]
    assert share["lora"] == pytest.approx(lora["sevens"], abs=0.05)
    assert share["base"] == pytest.approx(TABLE["baseSevens"], abs=0.05)
    assert share["base"] < 0.25


def test_files_are_small_and_fit_each_other():
    checkpoint = DEMO / TABLE["checkpoint"]["file"]
    assert checkpoint.stat().st_size <= 12_000_000
    assert all((DEMO / lora["file"]).stat().st_size < 600_000 for lora in TABLE["loras"])
    assert BUNDLE["structure"] == TABLE["checkpoint"]["structure"]
    assert {row["parameter"]: tuple(row["shape"]) for row in BUNDLE["refitMap"]} == {
        name: tensor.shape for name, tensor in base_weights().items()
    }
    assert len(TABLE["loras"]) >= 3
