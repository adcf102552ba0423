"""Engines loaded from files that are quantised already: the file's own codes serve, what rounding loses is told, and what it would swallow stays beside the layer."""

from __future__ import annotations

import math
import os

import pytest
import torch
from engines import CPU, bits, image, swap
from refit_host.files.checkpoint import CheckpointReader, CheckpointSource
from refit_host.models.registry import spec_of
from refit_host.quant.formats import FORMATS
from refit_host.quant.linear import QuantLinear
from refit_host.quant.placing import QuantEngine
from refit_host.quant.report import probe_inputs
from refit_host.quant.rounding import NEAREST, chances
from refit_host.quant.ways import survives
from refit_host.rotation import rotate
from refit_host.weights.stream import Ring
from safetensors.torch import load_file, save_file
from transformer_structures import flux

from bench.gpu.data import random_value

TURN = 16


def quantised_checkpoint(folder, shapes, name: str, turn: int = 0, seed: int = 0) -> CheckpointSource:
    """A file with every matrix of the blocks in this format, in the sidecar's words."""
    form, make = FORMATS[name], torch.Generator().manual_seed(1000 + seed)
    tensors, rows = {}, {}
    for key, shape in shapes.items():
        value = random_value(key, shape, CPU, make)
        piece = {"file": 0, "key": key, "start": 0, "length": shape[0] if shape else 1, "swapHalves": False}
        if len(shape) == 2 and "_blocks." in key and "mod" not in key:
            coded = form.encode(rotate(value, turn) if turn else value)
            stem = key.removesuffix("weight")
            tensors[key], tensors[f"{stem}weight_scale"] = coded["codes"], coded["scale"]
            piece |= {"dtype": {"int8": "I8", "fp8": "F8_E4M3", "nvfp4": "U8"}[name]}
            piece["storage"] = {"format": "scaled", "scale": f"{stem}weight_scale", **({"rotation": turn} if turn else {})}
            if name == "fp8":
                # One scale for the whole matrix, as most files have it.
                scale = value.abs().max() / 448
                tensors[key], tensors[f"{stem}weight_scale"] = (value / scale).to(torch.float8_e4m3fn), scale
            if name == "nvfp4":
                tensors |= _nvfp4(key, stem, coded)
                piece["storage"] = {"format": "nvfp4", "scale": f"{stem}weight_scale", "scale2": f"{stem}weight_scale_2"}
        else:
            tensors[key] = value.bfloat16()
            piece |= {"dtype": "BF16"}
        rows[key] = {"shape": list(shape), "pieces": [piece]}
    path = folder / f"{name}-{turn}-{seed}.safetensors"
    save_file(tensors, path)
    stat = os.stat(path)
    files = [{"path": str(path), "sizeBytes": stat.st_size, "mtimeNs": str(stat.st_mtime_ns), "inode": str(stat.st_ino)}]
    return CheckpointSource.parse({"files": files, "parameters": rows})


def _nvfp4(key: str, stem: str, coded: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    scales = coded["block_scale"].view(torch.uint8)
    rows, count = scales.shape
    tiles = torch.zeros(-(-rows // 128) * 128, -(-count // 4) * 4, dtype=torch.uint8)
    tiles[:rows, :count] = scales
    tiled = tiles.view(tiles.shape[0] // 128, 4, 32, tiles.shape[1] // 4, 4).permute(0, 3, 2, 1, 4).reshape(tiles.shape)
    codes = coded["codes"]
    return {
        key: (codes >> 4) | (codes << 4),
        f"{stem}weight_scale": tiled.contiguous().view(torch.float8_e4m3fn),
        f"{stem}weight_scale_2": coded["scale"][0, 0].clone(),
    }


def quant_engine(folder, name: str, turn: int = 0, place: str = "resident", seed: int = 0, rounding: str = "nearest") -> QuantEngine:
    shapes = flux()
    source = quantised_checkpoint(folder, shapes, name, turn, seed)
    engine = QuantEngine(
        spec_of(shapes), shapes, name, source, CPU, Ring(CPU), channels_last=True, room=1 << 40, merge="auto", rounding=rounding
    )
    engine.weights.load(place, CheckpointReader(source))
    return engine


def stack_of(folder, engine: QuantEngine, *pairs: tuple[int, float]):
    known = engine.__dict__.setdefault("images", {})
    for seed, _ in pairs:
        if seed not in known:
            known[seed] = image(folder, flux(), engine.weights.layout, seed)
    return [(known[seed], strength) for seed, strength in pairs]


def codes_of(weights) -> torch.Tensor:
    """Every byte of the quantised matrices; what is whole is merged in any case."""
    slots = [slot for slot in weights.layout.slots if slot.index in weights.stored.coded]
    return torch.cat(
        [part.contiguous().view(torch.uint8).flatten() for slot in slots for part in weights.stored.parts(slot, weights.live).values()]
    )


CASES = [("fp8", 0), ("int8", 0), ("int8", TURN), ("nvfp4", 0)]


@pytest.mark.parametrize(("name", "turn"), CASES)
def test_the_files_own_codes_are_live_and_come_back(tmp_path, name, turn):
    engine = quant_engine(tmp_path, name, turn)
    weights = engine.weights
    coded = [weights.layout.slots[index] for index in weights.stored.coded]
    assert len(coded) > 8 and all(slot.rotation == turn for slot in coded)
    stored = load_file(next(tmp_path.glob("*.safetensors")))
    for slot in coded:
        codes = weights.stored.parts(slot, weights.live)["codes"]
        expected = stored[slot.name]
        expected = (expected >> 4) | (expected << 4) if name == "nvfp4" else expected
        assert torch.equal(codes.view(torch.uint8), expected.view(torch.uint8)), slot.name
    clean = bits(weights)
    make = torch.Generator().manual_seed(5)
    for _ in range(100):
        count = int(torch.randint(0, 3, (), generator=make))
        pairs = [(int(torch.randint(1, 4, (), generator=make)), float(torch.randn((), generator=make))) for _ in range(count)]
        swap(weights, stack_of(tmp_path, engine, *pairs), loss=float(torch.rand((), generator=make)))
    swap(weights, [])
    assert torch.equal(bits(weights), clean) and weights.branches.variant == 0
    for place in ("pinned", "file"):
        assert torch.equal(bits(quant_engine(tmp_path, name, turn, place).weights), clean)


@pytest.mark.parametrize(("name", "turn"), CASES)
def test_base_and_adapter_are_within_one_rounding_and_the_loss_is_right(tmp_path, name, turn):
    engine = quant_engine(tmp_path, name, turn)
    weights, form = engine.weights, FORMATS[name]
    coded = [weights.layout.slots[index] for index in weights.stored.coded]
    before = {slot.index: form.decode(weights.stored.parts(slot, weights.live)).double() for slot in coded}
    stack = stack_of(tmp_path, engine, (1, 6.0), (2, -3.0))
    swap(weights, stack, loss=1.0)
    assert weights.branches.variant == 0
    sums = {position: [0.0, 0.0, 0.0] for position in range(2)}
    for slot in coded:
        changes = []
        for found, strength in stack:
            (term,) = found.every[slot.index]
            factors = found.factors_of(term, found.factors)
            change = (factors["up"].double() @ factors["down"].double()) * strength * term.scale
            # Where the fast path keeps factors turned, they come back turned once more.
            changes.append(rotate(change, turn) if turn else change)
        parts = weights.stored.parts(slot, weights.live)
        after, intended = form.decode(parts).double(), before[slot.index] + changes[0] + changes[1]
        assert ((after - intended).abs() <= form.steps(parts) * 1.001).all(), slot.name
        error = after - before[slot.index] - changes[0] - changes[1]
        for position, change in enumerate(changes):
            for index, product in enumerate((error * error, error * change, change * change)):
                sums[position][index] += float(product.sum())
    assert [row["adapter"] for row in weights.losses] == [found.file.adapter for found, _ in stack]
    for position, row in enumerate(weights.losses):
        error, cross, own = sums[position]
        assert row["merged"] == len(coded) and row["branched"] == 0 and len(row["parameters"]) == min(16, len(coded))
        assert row["projection"] == pytest.approx(1 + cross / own, rel=0.01)
        assert row["lostShare"] == pytest.approx(math.sqrt(error / own), rel=0.01)


@pytest.mark.parametrize(("name", "turn"), CASES)
def test_rounding_by_chance_keeps_small_changes_as_noise_and_comes_back(tmp_path, name, turn):
    engine = quant_engine(tmp_path, name, turn, rounding="stochastic")
    weights = engine.weights
    clean, small = bits(weights), stack_of(tmp_path, engine, (1, 0.02))
    swap(weights, small)
    first, losses = bits(weights), weights.losses
    # Nothing is swallowed, so nothing stays beside the layer; the noise is many times the change.
    assert losses[0]["branched"] == 0 and losses[0]["merged"] > 8
    assert losses[0]["projection"] == pytest.approx(1, abs=0.35) and losses[0]["lostShare"] > 1
    swap(weights, stack_of(tmp_path, engine, (2, 0.7), (1, 0.3)))
    assert not torch.equal(bits(weights), first)
    prepared = weights.prepare(small, verify=True)
    weights.commit(prepared)
    assert torch.equal(bits(weights), first) and prepared.sha256 == weights.checksums(prepared.sha256)
    swap(weights, [])
    assert torch.equal(bits(weights), clean)
    # Another strength is another chance, and the nearest way swallows most of this change.
    nearest = quant_engine(tmp_path, name, turn)
    swap(nearest.weights, small, loss=1.0)
    assert nearest.weights.losses[0]["projection"] < losses[0]["projection"]


def test_chance_reaches_only_what_a_stack_moves():
    moved = torch.arange(64).view(4, 16) % 2 == 0
    chance = chances("a.weight", [("s" * 64, 0.5)], moved)
    assert (chance[~moved] == NEAREST).all() and ((chance[moved] >= 0) & (chance[moved] < 1)).all()
    assert torch.equal(chance, chances("a.weight", [("s" * 64, 0.5)], moved))
    assert not torch.equal(chance, chances("a.weight", [("s" * 64, 0.25)], moved))
    assert not torch.equal(chance, chances("b.weight", [("s" * 64, 0.5)], moved))
    for name in ("fp8", "int8", "nvfp4"):
        form = FORMATS[name]
        value = torch.randn(16, 4096, generator=torch.Generator().manual_seed(3))
        base = form.encode(value)
        held = form.decode(base)
        # A quarter of a step on every value: three of four stay, one goes up.
        change = form.steps(base) * 0.25 * held.sign()
        largest = held.abs() >= 0.9 * held.abs().amax(1, keepdim=True)
        wanted = torch.where(largest, held, held + change)
        got = form.decode(form.encode(wanted, base, chances("a", [], wanted != held)))
        assert torch.equal(got[largest], held[largest])
        share = float(((got - held) * change).sum() / (change * change)[~largest].sum())
        assert share == pytest.approx(1, abs=0.1), name


def test_how_much_survives_depends_on_the_size_of_a_change_in_steps():
    assert [round(survives(size), 2) for size in (0.0, 0.1, 0.2, 0.3, 0.4, 1.0, 5.0)] == [0.0, 0.0, 0.18, 0.66, 0.92, 1.0, 1.0]
    make = torch.Generator().manual_seed(0)
    for size in (0.25, 0.35, 0.6):
        change = torch.randn(200_000, generator=make) * size
        assert survives(size) == pytest.approx(float((change.round() @ change) / (change @ change)), abs=0.03)


@pytest.mark.parametrize(("name", "turn"), CASES)
def test_what_rounding_would_swallow_stays_beside_the_layer(tmp_path, name, turn):
    engine = quant_engine(tmp_path, name, turn)
    weights = engine.weights
    clean, inputs = codes_of(weights), probe_inputs("flux", _ports(), CPU)
    spec = engine.spec
    plain = spec.forward(engine.make(), inputs)
    small = stack_of(tmp_path, engine, (1, 0.02), (2, -0.01))
    swap(weights, small, loss=1.0)
    assert all(row["projection"] < 0.6 for row in weights.losses)
    swap(weights, small)
    coded = len(weights.stored.coded)
    assert [(row["merged"], row["branched"]) for row in weights.losses] == [(0, coded)] * 2
    assert all(abs(row["projection"] - 1) < 0.01 and row["lostShare"] < 0.01 for row in weights.losses)
    assert torch.equal(codes_of(weights), clean)
    number = weights.branches.variant
    assert number > 0
    module = engine.make_branched()
    layer = next(child for child in module.modules() if isinstance(child, QuantLinear))
    assert layer.branched and layer.branch_up.shape[1] == 64
    # Another adapter, of another strength, within the reserved rank: the same modules, other values.
    branched = spec.forward(module, inputs)
    swap(weights, stack_of(tmp_path, engine, (3, 0.03)))
    assert weights.branches.variant == number
    assert not torch.equal(spec.forward(module, inputs), branched)
    swap(weights, small)
    assert torch.equal(spec.forward(module, inputs), branched)
    # Beside a product as exact as the step's own arithmetic: what the two give for one layer.
    value = torch.randn(7, layer.codes.shape[1] * (2 if name == "nvfp4" else 1)).bfloat16()
    alone = QuantLinear(layer.form, {key: getattr(layer, key) for key in layer.names}, layer.bias, layer.way, layer.rotation)
    beside = (rotate(value, turn) if turn else value).float() @ layer.branch_down.float().T @ layer.branch_up.float().T
    assert torch.allclose(layer(value).float() - alone(value).float(), beside, atol=0.05 * float(alone(value).abs().max()))
    swap(weights, [])
    assert weights.branches.variant == 0 and torch.equal(codes_of(weights), clean)
    assert torch.equal(spec.forward(engine.make(), inputs), plain)


def test_more_rank_than_is_reserved_takes_more_memory_and_other_modules(tmp_path):
    engine = quant_engine(tmp_path, "int8")
    weights = engine.weights
    swap(weights, stack_of(tmp_path, engine, (1, 0.01)))
    first = weights.branches.variant
    wide = [(image(tmp_path, flux(), weights.layout, 7, rank=80), 0.001)]
    swap(weights, wide)
    assert weights.branches.variant == first + 1
    layer = next(child for child in engine.make_branched().modules() if isinstance(child, QuantLinear))
    assert layer.branch_up.shape[1] == 128


def test_a_large_change_is_merged_and_a_small_one_is_not_within_one_stack(tmp_path):
    engine = quant_engine(tmp_path, "int8")
    weights = engine.weights
    swap(weights, stack_of(tmp_path, engine, (1, 8.0), (2, 0.02)))
    coded = len(weights.stored.coded)
    assert [(row["merged"], row["branched"]) for row in weights.losses] == [(coded, 0), (0, coded)]
    first = codes_of(weights)
    swap(weights, stack_of(tmp_path, engine, (1, 8.0)))
    assert torch.equal(codes_of(weights), first)


def test_another_file_in_another_format_serves_in_the_same_engine(tmp_path):
    engine = quant_engine(tmp_path, "int8", TURN)
    weights = engine.weights
    clean = bits(weights)
    other = quantised_checkpoint(tmp_path, flux(), "fp8", seed=3)
    swap(weights, stack_of(tmp_path, engine, (1, 1.0)), reader=CheckpointReader(other), full=True, stage=True)
    assert not weights.base.held.coded and not torch.equal(bits(weights), clean)
    # Off the codes' grid nothing is swallowed on average.
    assert weights.losses[0]["branched"] == 0 and weights.losses[0]["projection"] == pytest.approx(1, abs=0.1)
    swap(weights, [], reader=CheckpointReader(quantised_checkpoint(tmp_path, flux(), "int8", TURN)), full=True)
    assert torch.equal(bits(weights), clean)


@pytest.mark.parametrize("turn", [0, TURN])
def test_the_integer_product_of_codes_agrees_with_dequantised_weights(tmp_path, turn):
    engine = quant_engine(tmp_path, "int8", turn)
    layer = next(child for child in engine.make().modules() if isinstance(child, QuantLinear))
    parts = {key: getattr(layer, key) for key in layer.names}
    value = torch.randn(40, layer.codes.shape[1], generator=torch.Generator().manual_seed(4)).bfloat16()
    expected = QuantLinear(layer.form, parts, layer.bias, "dequantise", turn)(value).float()
    got = QuantLinear(layer.form, parts, layer.bias, "integer", turn)(value).float()
    assert float((got - expected).norm() / expected.norm()) < 0.02


def _ports() -> list[dict]:
    from refit_graphs.families import plan

    return [item.described() for item in plan(flux()).inputs]
