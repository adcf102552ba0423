"""Exported UNets against diffusers: the same numbers for every shape, in every variant, with weights fed as inputs."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
import torch
from graph_runs import diffusers, exported, relative, session, step
from graph_structures import tiny
from refit_graphs.bundle import export_bundle

LAYOUTS = {
    "sd15": {"widths": [32, 64, 64, 64]},
    "sd2": {"widths": [64, 64, 128, 128]},
    "sdxl": {"widths": [64, 64, 128], "transformer_layers_per_block": [1, 2, 3], "reverse_transformer_layers_per_block": [3, 2, 1]},
    "sdxl-refiner": {
        "widths": [64, 64, 128, 128],
        "transformer_layers_per_block": [1] * 4,
        "reverse_transformer_layers_per_block": [1] * 4,
    },
}


# The others share their rules and run with the long tests.
@pytest.fixture(
    scope="module",
    params=[
        "sd15",
        pytest.param("sdxl", marks=pytest.mark.e2e),
        pytest.param("sd2", marks=pytest.mark.e2e),
        pytest.param("sdxl-refiner", marks=pytest.mark.e2e),
    ],
)
def bundle(request, tmp_path_factory):
    model = tiny(request.param, **LAYOUTS[request.param])
    out = tmp_path_factory.mktemp("graphs") / request.param
    return model, export_bundle(model.shapes, request.param, out, lambda text: None), out


@pytest.mark.parametrize("residuals", [False, True])
def test_f32_variant_equals_diffusers_for_every_shape(bundle, residuals):
    model, table, out = bundle
    run = session(out / table["variants"]["residuals-fp32" if residuals else "fp32"])
    for batch, height, width, tokens in [(1, 8, 8, 77), (2, 16, 24, 77), (3, 8, 16, 154), (2, 13, 9, 77), (1, 11, 20, 5)]:
        feed = step(table, batch, height, width, tokens)
        error = relative(exported(run, model, feed, residuals), diffusers(model, feed, residuals))
        assert error < 1e-4, f"batch {batch}, {height}x{width}, {tokens} tokens: relative error {error:.2e}"


@pytest.mark.parametrize("residuals", [False, True])
def test_f16_variant_is_as_near_as_f16_allows(bundle, residuals):
    model, table, out = bundle
    run = session(out / table["variants"]["residuals-fp16" if residuals else "fp16"])
    feed = step(table, 2, 10, 16, 77)
    assert relative(exported(run, model, feed, residuals), diffusers(model, feed, residuals)) < 2e-2


def test_timesteps_keep_their_f32_precision_in_the_f16_variant(bundle):
    """998.6 and 998.5 are one number in f16 (they are 0.5 apart there), and the sines of such angles differ by much more than rounding."""
    model, table, out = bundle
    run = session(out / table["variants"]["fp16"])
    feed = step(table, 1, 8, 8, 77)
    outputs = []
    for when in (998.6, 998.5):
        feed["timestep"] = np.array([when], np.float32)
        outputs.append(exported(run, model, feed))
        assert relative(outputs[-1], diffusers(model, feed)) < 2e-2
    assert np.abs(outputs[0] - outputs[1]).max() > 0


def test_every_parameter_is_an_input_and_no_constant_holds_one(bundle):
    model, table, out = bundle
    for file in table["variants"].values():
        graph = onnx.load(out / file).graph
        inputs = {value.name for value in graph.input}
        assert set(model.weights) <= inputs
        assert not graph.initializer
        used = {name for node in graph.node for name in node.input}
        assert inputs <= used, f"unused inputs: {sorted(inputs - used)[:3]}"
        constants = [attribute.t for node in graph.node if node.op_type == "Constant" for attribute in node.attribute]
        assert max(np.prod(tensor.dims or [1]) for tensor in constants) <= 1024


def test_graph_json_describes_the_files(bundle):
    model, table, out = bundle
    assert json.loads((out / "graph.json").read_text(encoding="utf-8")) == table
    assert {row["parameter"]: tuple(row["shape"]) for row in table["refitMap"]} == model.shapes
    graph = onnx.load(out / table["variants"]["residuals-fp16"]).graph
    listed = [item["name"] for item in [*table["inputs"], *table["residuals"]]]
    assert [value.name for value in graph.input][: len(listed)] == listed
    types = {value.name: value.type.tensor_type.elem_type for value in graph.input}
    assert types.pop("timestep") == onnx.TensorProto.FLOAT
    assert set(types.values()) == {onnx.TensorProto.FLOAT16}


def test_y_is_the_vector_that_diffusers_makes_of_pooled_text_and_sizes(bundle):
    model, table, _ = bundle
    if "y" not in {item["name"] for item in table["inputs"]}:
        pytest.skip("only SDXL and its refiner take y")
    feed = step(table, 2, 8, 8, 77)
    width = feed["y"].shape[1]
    sizes = torch.tensor([[1024.0, 768.0, 0.0, 16.0, 1024.0, 1024.0], [512.0, 512.0, 8.0, 0.0, 512.0, 768.0]])[
        :, : 6 if width == 2816 else 5
    ]
    pooled = torch.randn(2, 1280)
    unet = model.unet
    added = {"text_embeds": pooled, "time_ids": sizes}
    unet.__dict__.pop("get_aug_embed", None)
    with torch.no_grad():
        want = unet(
            torch.tensor(feed["sample"]),
            torch.tensor(feed["timestep"]),
            torch.tensor(feed["encoder_hidden_states"]),
            added_cond_kwargs=added,
        )[0].numpy()
        y = torch.cat([pooled, unet.add_time_proj(sizes.flatten()).reshape(2, -1)], 1)
    assert y.shape[1] == width
    assert relative(diffusers(model, feed | {"y": y.numpy()}), want) < 1e-6
