"""Random stacks of LyCORIS modules: what lycoris-lora itself computes is what our evaluator must give."""

import random

import pytest
import torch
from lycoris.modules.boft import ButterflyOFTModule
from lycoris.modules.diag_oft import DiagOFTModule
from lycoris.modules.full import FullModule
from lycoris.modules.glora import GLoRAModule
from lycoris.modules.ia3 import IA3Module
from lycoris.modules.locon import LoConModule
from lycoris.modules.loha import LohaModule
from lycoris.modules.lokr import LokrModule
from oracle_node import merge
from safetensors.torch import load_file, save_file

LINEAR = "input_blocks.1.1.transformer_blocks.0.attn1.to_q"
CONV = "input_blocks.1.0.in_layers.2"
SEED = 20240607
JOBS = 90


def lora(name, layer, rng):
    return LoConModule(name, layer, lora_dim=rng.randint(1, 7), alpha=rng.choice([1, 2.5, 8]), use_tucker=rng.random() < 0.5, rs_lora=False)


def loha(name, layer, rng):
    return LohaModule(name, layer, lora_dim=rng.randint(1, 5), alpha=rng.choice([1, 4]), use_tucker=rng.random() < 0.5)


def lokr(name, layer, rng):
    shape = {"use_tucker": rng.random() < 0.5, "decompose_both": rng.random() < 0.5, "factor": rng.choice([-1, 2, 4])}
    return LokrModule(name, layer, lora_dim=rng.choice([1, 2, 3, 10000]), alpha=rng.choice([1, 4]), **shape)


def glora(name, layer, rng):
    return GLoRAModule(name, layer, lora_dim=rng.randint(1, 3), alpha=rng.choice([1, 4]))


def full(name, layer, rng):
    return FullModule(name, layer)


def ia3(name, layer, rng):
    # A convolution's scale on outputs lies along dimension 1 in LyCORIS, where it can broadcast only over inputs: linear layers there.
    on_input = isinstance(layer, torch.nn.Conv2d) or rng.random() < 0.5
    return IA3Module(name, layer, train_on_input=on_input)


def oft(name, layer, rng):
    return DiagOFTModule(name, layer, lora_dim=rng.choice([2, 4, 8]), constraint=0, rescaled=False)


def boft(name, layer, rng):
    return ButterflyOFTModule(name, layer, lora_dim=rng.choice([2, 4]), constraint=0, rescaled=rng.random() < 0.5)


def dora(name, layer, rng):
    return LoConModule(name, layer, lora_dim=rng.randint(1, 5), alpha=2, weight_decompose=True, wd_on_out=False)


KINDS = [lora, loha, lokr, glora, full, ia3, oft, boft, dora]
# Where LyCORIS and ComfyUI agree at full strength only: butterfly stages interpolate, DoRA scales.
WHOLE_STRENGTH = {boft, dora}


def randomise(module, generator):
    for parameter in module.parameters():
        if parameter.is_floating_point():
            parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)


def make_layer(rng, generator, weight):
    if weight.ndim == 2:
        layer = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    else:
        layer = torch.nn.Conv2d(weight.shape[1], weight.shape[0], weight.shape[2:], bias=False)
    layer.weight.data.copy_(weight)
    return layer


def one_adapter(kind, stem, weight, rng, generator):
    """(file tensors, strength, merged weight)."""
    flat = "lora_unet_" + stem.replace(".", "_")
    layer = make_layer(rng, generator, weight)
    module = kind(flat, layer, rng)
    randomise(module, generator)
    if kind is dora:
        module.dora_scale.data.copy_(module.dora_scale.data.abs() + 0.5)
    if kind is full:
        # The parameter of a full module is the trained weight itself.
        module.weight.data.copy_(weight + module.weight.data)
    strength = 1.0 if kind in WHOLE_STRENGTH else round(rng.uniform(-1.5, 1.5), 3)
    with torch.no_grad():
        if kind is dora:
            merged = module.get_merged_weight(multiplier=1, shape=weight.shape)[0]
        elif kind is full:
            merged = weight + strength * (module.weight.data - weight)
        elif kind in (loha, lokr):
            # Their get_diff_weight multiplies by the scale twice; training and inference use get_weight, which has it once.
            merged = weight + strength * module.get_weight(weight.shape)
        else:
            merged = weight + module.get_diff_weight(multiplier=strength, shape=weight.shape)[0]
        state = {
            f"{flat}.{key}": value.detach().float().contiguous() if value.is_floating_point() else value
            for key, value in module.state_dict().items()
        }
    return state, strength, merged.detach().clone()


def build(index, folder):
    rng = random.Random(SEED + index)
    generator = torch.Generator().manual_seed(SEED + index)
    conv = rng.random() < 0.5
    rows = rng.choice([8, 16, 32])
    columns = rng.choice([4, 8, 12, 20])
    kernel = rng.choice([1, 3])
    stem = CONV if conv else LINEAR
    base = torch.randn([rows, columns] + ([kernel, kernel] if conv else []), generator=generator)
    base_path = folder / f"base{index}.safetensors"
    save_file({f"model.diffusion_model.{stem}.weight": base}, base_path)
    weight = base
    adapters = []
    kinds = []
    for position in range(rng.randint(1, 5)):
        kind = KINDS[index % len(KINDS)] if position == 0 else rng.choice(KINDS)
        kinds.append(kind.__name__)
        state, strength, weight = one_adapter(kind, stem, weight, rng, generator)
        path = folder / f"adapter{index}_{position}.safetensors"
        save_file(state, path)
        adapters.append([str(path), strength])
    job = {
        "base": str(base_path),
        "adapters": adapters,
        "family": "sd15",
        "mode": "extended",
        "out": str(folder / f"out{index}.safetensors"),
    }
    return job, f"model.diffusion_model.{stem}.weight", weight, kinds


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lycoris")
    built = [build(index, folder) for index in range(JOBS)]
    return list(zip(built, merge([job for job, *_ in built]), strict=True))


@pytest.mark.parametrize("index", range(JOBS))
def test_random_stack_equals_lycoris(runs, index):
    (job, key, expected, kinds), answer = runs[index]
    assert answer["ok"], (kinds, answer)
    assert answer["skipped"] == [], kinds
    for report in answer["reports"]:
        assert report["failed"] == [], (kinds, report["failed"])
        assert report["ignored"] == [], (kinds, report["ignored"])
    actual = load_file(job["out"])[key]
    scale = expected.abs().max().item()
    assert (actual - expected).abs().max().item() <= 2e-5 * max(scale, 1.0), kinds
