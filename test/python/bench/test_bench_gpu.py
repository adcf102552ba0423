"""The bench's own logic on the CPU, so that time on a rented card is not spent on its mistakes."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from engines import CPU, sdxl_shapes, whole_engine
from exported_cases import step_inputs
from refit_graphs.families import plan
from refit_host.models.bind import bind
from refit_host.models.registry import spec_of
from refit_host.wire.segments import SUPPORTED
from transformer_structures import wan

from bench.gpu import data
from bench.gpu.context import ROOT, Context
from bench.gpu.occupant import PRETENDED_BYTES, Occupant
from bench.gpu.pieces import families
from bench.gpu.plain import PlainUnet
from bench.gpu.plan import LANES, PIECES
from bench.gpu.setting import Setting


def context(folder: Path) -> Context:
    return Context(CPU, True, folder, 2)


@pytest.mark.parametrize("name", PIECES)
def test_every_piece_can_be_named(name):
    assert callable(importlib.import_module(f"bench.gpu.pieces.{name}").run)


def test_the_plan_runs_pieces_that_exist_and_tells_runs_of_one_piece_apart():
    runs = [run for lane in LANES for run in lane]
    assert {run.piece for run in runs} <= set(PIECES)
    told = [(run.piece, run.label) for run in runs if run.piece != "machine"]
    assert len(set(told)) == len(told)


def test_two_checkpoints_change_places_bit_for_bit(tmp_path):
    shapes = wan("wan22-i2v-14b")
    spec, inputs = spec_of(shapes), step_inputs(plan(dict(shapes)))
    weights = whole_engine(tmp_path, shapes, "resident")
    module = bind(spec.build(), spec, weights.layout, weights.live)
    row = families.pair(context(tmp_path), weights, lambda: spec.forward(module, inputs))
    assert row["weights_and_outputs_bit_identical"] and row["base"] == "pinned" and row["n"] == 4
    assert row["outputs_differ_by"] > 0.1


def test_a_change_that_did_not_happen_is_seen(tmp_path):
    shapes = wan("wan22-i2v-14b")
    spec, inputs = spec_of(shapes), step_inputs(plan(dict(shapes)))
    weights = whole_engine(tmp_path, shapes, "resident")
    module = bind(spec.build(), spec, weights.layout, weights.live)
    weights.commit = lambda prepared: 0.0
    row = families.pair(context(tmp_path), weights, lambda: spec.forward(module, inputs))
    assert not row["weights_and_outputs_bit_identical"]


def test_one_changed_bit_is_no_equal_arena(tmp_path):
    weights = whole_engine(tmp_path, wan("wan22-i2v-14b"), "resident")
    assert families.equal_bits(weights.layout, weights.live, weights.base.arena)
    weights.live[weights.layout.slots[-1].offset] ^= 1
    assert not families.equal_bits(weights.layout, weights.live, weights.base.arena)


def test_plain_diffusers_takes_residuals_and_merged_adapters(tmp_path):
    setting = Setting(context(tmp_path), {})
    plain, spec = PlainUnet(setting, CPU), spec_of(setting.shapes)
    clean = plain(setting.inputs)
    with_residuals = {**setting.inputs, **setting.residuals(0.5)}
    weights = whole_engine(tmp_path / "demo", setting.shapes)
    module = bind(spec.build(), spec, weights.layout, weights.live)
    assert torch.allclose(spec.forward(module, setting.inputs), clean, rtol=1e-4, atol=1e-5)
    assert torch.allclose(spec.forward(module, with_residuals), plain(setting.inputs, setting.residuals(0.5)), rtol=1e-4, atol=1e-5)
    plain.merge(setting.stack((0, 1.0)))
    assert not torch.allclose(plain(setting.inputs), clean, rtol=1e-2)
    plain.merge([])
    assert torch.equal(plain(setting.inputs), clean)


def test_plain_diffusers_takes_a_finished_vector_y(tmp_path):
    shapes = sdxl_shapes()
    spec, inputs = spec_of(shapes), step_inputs(plan(dict(shapes)))
    weights = whole_engine(tmp_path, shapes)
    record = data.checkpoint_record(tmp_path, shapes, CPU, 0)
    plain = PlainUnet(SimpleNamespace(shapes=shapes, inputs=inputs, float_type=torch.float32, checkpoints=[record]), CPU)
    assert torch.allclose(spec.forward(bind(spec.build(), spec, weights.layout, weights.live), inputs), plain(inputs), rtol=1e-4, atol=1e-5)


def test_without_a_card_a_file_says_how_much_is_free(tmp_path, monkeypatch):
    monkeypatch.setenv("BENCH_FREE_BYTES_FILE", "")
    occupant = Occupant("cpu", tmp_path)
    assert occupant.fill(5) == 5 and Path(os.environ["BENCH_FREE_BYTES_FILE"]).read_text() == "5"
    assert occupant.free() == PRETENDED_BYTES


def rows_of(piece: str, folder: Path) -> dict[str, list[dict]]:
    """A piece as the command runs it, on the demo's model: its rows by `what`."""
    results = folder / "rows.jsonl"
    command = [
        sys.executable,
        "-m",
        "bench.gpu",
        piece,
        "--device",
        "cpu",
        "--tiny",
        "--repeats",
        "2",
        "--folder",
        str(folder),
        "--results",
        str(results),
    ]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=300)
    found: dict[str, list[dict]] = {}
    for line in results.read_text().splitlines():
        row = json.loads(line)
        assert "failed" not in row, row
        found.setdefault(row["what"], []).append(row)
    return found


@pytest.mark.e2e
def test_room_asks_first_and_streams_beside_a_program_that_stays(tmp_path):
    rows = rows_of("room", tmp_path)
    for row in rows["load while another program holds the card"]:
        assert row["answer"] == "HOST_OUT_OF_MEMORY" and row["streams"] is True and row["bytes"] > row["freeBytes"]
    (whole,), (beside,) = rows["the same load after the other program let go"], rows["the second load beside a program that keeps the card"]
    assert whole["streamedBytes"] == 0 and beside["streamedBytes"] > 0
    assert all(pair["relative_error"] < 1e-5 for row in (whole, beside) for pair in row["against_alone"].values())


@pytest.mark.e2e
def test_residuals_equal_plain_diffusers(tmp_path):
    rows = rows_of("residuals", tmp_path)
    (plain,), (swap,), (back,) = rows["against plain diffusers"], rows["swap between two steps with residuals"], rows["back to base"]
    placed = rows["residuals in a segment against the same in the frame"][0]
    assert placed["bit_identical"] and placed["offered"] == SUPPORTED
    assert plain["without"] < 1e-5 and plain["with_residuals"] < 1e-5 and plain["residuals_change_output_by"] > 0.01
    assert swap["against_plain_diffusers_merged"] < 1e-5 and swap["adapter_changes_output_by"] > 0.01
    assert back["weights_bit_identical"] and all(back["output_bit_identical"].values())
    assert rows["residuals of zero against none"][0]["relative_error"] < 1e-5


@pytest.mark.e2e
def test_quantised_engines_come_back_bit_for_bit(tmp_path):
    rows = rows_of("quantised", tmp_path)
    assert [row["kind"] for row in rows["quantised load"]] == ["bf16", "fp8", "int8", "nvfp4"]
    assert all(
        row["A_to_B_to_A_weights_bit_identical"] and row["A_to_B_to_A_output_bit_identical"] for row in rows["quantised swap and step"]
    )
    assert all(row["weights_bit_identical"] and row["output_bit_identical"] for row in rows["quantised back to base"])
    assert {row["kind"]: row["with an adapter"] < 0.2 for row in rows["quantised against the first kind"]} == {
        "fp8": True,
        "int8": True,
        "nvfp4": True,
    }
