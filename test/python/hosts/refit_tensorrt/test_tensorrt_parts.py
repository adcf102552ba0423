"""Parts of the tensorrt host that need no engine: profiles, the graph as the library wants it, and graphs that fit nothing."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import onnx
import pytest
import torch
from refit_graphs.bundle import export_bundle
from refit_host.failure import HostFailure
from refit_host.files.checkpoint import CheckpointReader
from refit_host.host.bundle import read_bundle
from refit_host.torch_engine.maker import TorchMaker
from refit_host.wire.messages import LoadParams, Sources
from refit_host.wire.server import Call
from refit_tensorrt.network import Nowhere, read_source
from refit_tensorrt.profiles import GIB, choose, profiles_for
from refit_tensorrt.reference import difference, samples_for
from tensorrt_bench import DEMO, Bench, checkpoint, lora, simulation
from transformer_structures import flux

SAMPLE = {"name": "sample", "shape": ["batch", 4, "height", "width"]}


def shapes(batch: int, height: int, width: int) -> dict[str, tuple[int, ...]]:
    return {"sample": (batch, 4, height, width)}


def test_a_small_device_gets_small_profiles_and_a_large_one_also_large_ones():
    small, large = profiles_for("sdxl", 8 * GIB), profiles_for("sdxl", 24 * GIB)
    assert len(small) == 1 and len(large) == 2
    assert choose(small, [SAMPLE], shapes(2, 160, 160)) == 0
    assert choose(small, [SAMPLE], shapes(3, 128, 128)) is None
    assert choose(small, [SAMPLE], shapes(1, 192, 128)) is None
    assert choose(large, [SAMPLE], shapes(2, 128, 128)) == 0
    assert choose(large, [SAMPLE], shapes(8, 192, 192)) == 1
    assert choose(large, [SAMPLE], shapes(9, 64, 64)) is None
    text = {"name": "text", "shape": ["batch", "tokens", 2048]}
    for profiles in (small, large):
        assert [choose(profiles, [text], {"text": (1, tokens, 2048)}) for tokens in (77, 154, 308)] == [0, 0, 0]
        assert choose(profiles, [text], {"text": (1, 309, 2048)}) is None


def test_axes_of_residuals_are_the_pictures_divided_and_rounded_up():
    (profile,) = profiles_for("sd15", 8 * GIB)
    assert profile.axis("height_8") == (1, 8, 20)
    assert profile.ranges({"shape": ["batch", 1280, "height_8", "width_8"]}) == ((1, 1280, 1, 1), (2, 1280, 8, 8), (2, 1280, 20, 20))


@pytest.mark.parametrize("name", ["sd15", "sdxl", "demo"])
def test_every_parameter_becomes_an_initialiser_at_an_address_of_its_own(name):
    bundle = read_bundle(DEMO.parent / name)
    source = read_source(bundle.file("fp16"), bundle.rows)
    model = onnx.load_from_string(source.model)
    assert [t.name for t in model.graph.initializer] == [w.name for w in source.weights]
    assert {value.name for value in model.graph.input} == {port["name"] for port in bundle.inputs}
    assert {w.name: w.shape for w in source.weights} == {row.weight: row.shape for row in bundle.rows}
    nowhere = Nowhere(source.weights)
    ends = sorted((nowhere[w.name], nowhere[w.name] + w.nbytes) for w in source.weights)
    assert all(end <= begin for (_, end), (begin, _) in zip(ends, ends[1:]))


def test_a_refit_map_that_is_not_the_models_is_refused():
    bundle = read_bundle(DEMO)
    for rows in (
        [*bundle.rows, replace(bundle.rows[0], weight="nowhere.weight")],
        [replace(bundle.rows[0], shape=(1, 2)), *bundle.rows[1:]],
    ):
        with pytest.raises(HostFailure) as caught:
            read_source(bundle.file("fp32"), rows)
        assert caught.value.code == "HOST_GRAPH_INVALID"


@pytest.fixture
def demo_copy(tmp_path):
    """The demo bundle with a changed refit map or without its model."""
    folder = tmp_path / "graph"
    shutil.copytree(DEMO, folder)

    def change(edit):
        table = json.loads((folder / "graph.json").read_text())
        edit(table)
        (folder / "graph.json").write_text(json.dumps(table))
        return folder

    return change


def test_a_parameter_marked_not_refittable_is_named_and_nothing_is_built(demo_copy):
    def fix(table):
        table["refitMap"][5]["refittable"] = False

    folder = demo_copy(fix)
    name = read_bundle(folder).rows[5].parameter
    with simulation(), pytest.raises(HostFailure) as caught:
        Bench(None).load(graph=folder)
    assert caught.value.code == "HOST_NOT_REFITTABLE"
    assert name in caught.value.message and "NEEDS_RECOMPILE" in caught.value.message


def test_a_graph_whose_model_is_gone_is_refused(demo_copy):
    folder = demo_copy(lambda table: None)
    (folder / "unet.fp32.onnx").unlink()
    with simulation(), pytest.raises(HostFailure) as caught:
        Bench(None).load(graph=folder)
    assert caught.value.code == "HOST_GRAPH_INVALID"


def on_torch(bench, params, sample):
    """The same load on the torch host, in the same process."""
    parsed = LoadParams.parse(params, Sources())
    engine = TorchMaker(bench.host.device).make(parsed, CheckpointReader(parsed.checkpoint), bench.host, Call(1, [], lambda *_: None))
    engine.weights.commit(engine.weights.prepare(engine.images(parsed.stack)))
    return engine.model.step(dict(sample))["out_sample"]


def test_fused_and_exchanged_rows_reach_the_engine_as_the_refit_map_says(tmp_path):
    """Flux: qkv is one parameter and three weights, the last modulation has its halves exchanged."""
    names = flux()
    folder = tmp_path / "graph"
    export_bundle(names, "flux-small", folder, lambda line: None)
    bundle = read_bundle(folder)
    assert any(row.rows for row in bundle.rows) and any(row.swap_halves for row in bundle.rows)
    touched = {
        row.parameter: names[row.parameter] for row in bundle.rows if (row.rows or row.swap_halves) and len(names[row.parameter]) == 2
    }
    params = {"engine": "t", "graph": {"folder": str(folder), "variant": "fp32"}, "weightDtype": "f32",
              "checkpoint": checkpoint(tmp_path / "flux.safetensors", names), "stack": [lora(tmp_path, touched)]}  # fmt: skip
    with simulation():
        bench = Bench(None)
        bench.call("load", **params)
        sample = samples_for(bundle, profiles_for("flux", 24 * GIB)[0], torch.float32)[0]
        got = bench.host._engines["t"].model.step(dict(sample))["out_sample"].clone()
        assert difference(got, on_torch(bench, params, sample)) < 1e-4
