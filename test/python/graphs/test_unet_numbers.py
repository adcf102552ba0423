"""Exported UNets against diffusers: the same numbers for every shape, in every variant, with weights fed as inputs."""

from __future__ import annotations

import json

import numpy as np
import onnxruntime
import pytest
import torch
from graph_structures import tiny
from refit_graphs.bundle import export_bundle

LAYOUTS = {
    "sd15": dict(widths=[32, 64, 64, 64]),
    "sd2": dict(widths=[64, 64, 128, 128]),
    "sdxl": dict(widths=[64, 64, 128], transformer_layers_per_block=[1, 2, 3], reverse_transformer_layers_per_block=[3, 2, 1]),
    "sdxl-refiner": dict(widths=[64, 64, 128, 128], transformer_layers_per_block=[1, 1, 1, 1], reverse_transformer_layers_per_block=[1, 1, 1, 1]),
}


@pytest.fixture(scope="module", params=LAYOUTS)
def exported(request, tmp_path_factory):
    layout = request.param
    options = dict(LAYOUTS[layout])
    if "transformer_layers_per_block" in options:
        model = tiny_with_depths(layout, **options)
    else:
        model = tiny(layout, **options)
    out = tmp_path_factory.mktemp("graphs") / layout
    table = export_bundle(model.shapes, layout, out, lambda text: None)
    return model, table, out


def tiny_with_depths(layout: str, **options: object):
    from graph_structures import shipped

    # Fewer transformer blocks than the real layout: the names of the missing ones drop out by themselves.
    assert shipped(layout)["config"]["use_linear_projection"]
    return tiny(layout, **options)


def session(out, file: str) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(out / file), options, providers=["CPUExecutionProvider"])


def step(table: dict, batch: int, height: int, width: int, tokens: int, seed: int = 0) -> dict[str, np.ndarray]:
    sizes = {"batch": batch, "height": height, "width": width, "tokens": tokens}
    sizes |= {f"{axis}_{n}": -(-sizes[axis] // n) for axis in ("height", "width") for n in (2, 4, 8)}
    draw = np.random.default_rng(seed)
    feed = {}
    for item in [*table["inputs"], *table["residuals"]]:
        shape = [sizes.get(axis, axis) for axis in item["shape"]]
        feed[item["name"]] = (0.3 * draw.standard_normal(shape)).astype(np.float32)
    feed["timestep"] = draw.uniform(0, 999, batch).round().astype(np.float32)
    return feed


def reference(model, feed: dict[str, np.ndarray], residuals: bool) -> np.ndarray:
    tensors = {name: torch.tensor(value) for name, value in feed.items()}
    down = [tensors[name] for name in feed if name.startswith("down_residual_")] if residuals else None
    unet = model.unet
    extra = {}
    if "y" in tensors:
        unet.get_aug_embed = lambda emb, encoder_hidden_states, added_cond_kwargs: unet.add_embedding(added_cond_kwargs["y"])
        extra["added_cond_kwargs"] = {"y": tensors["y"]}
    with torch.no_grad():
        return unet(
            tensors["sample"],
            tensors["timestep"],
            tensors["encoder_hidden_states"],
            down_block_additional_residuals=down,
            mid_block_additional_residual=tensors["mid_residual"] if residuals else None,
            return_dict=False,
            **extra,
        )[0].numpy()


def relative(got: np.ndarray, want: np.ndarray) -> float:
    return float(np.abs(got - want).max() / np.abs(want).max())


@pytest.mark.parametrize("residuals", [False, True])
def test_f32_variant_equals_diffusers_for_every_shape(exported, residuals):
    model, table, out = exported
    run = session(out, table["variants"]["residuals-fp32" if residuals else "fp32"])
    weights = {name: tensor.numpy() for name, tensor in model.weights.items()}
    for batch, height, width, tokens in [(1, 8, 8, 77), (2, 16, 24, 77), (3, 8, 16, 154), (2, 13, 9, 77), (1, 11, 20, 5)]:
        feed = step(table, batch, height, width, tokens)
        given = {name: value for name, value in feed.items() if residuals or "residual" not in name}
        got = run.run(None, given | weights)[0]
        error = relative(got, reference(model, feed, residuals))
        assert error < 1e-4, f"batch {batch}, {height}x{width}, {tokens} tokens: relative error {error:.2e}"


@pytest.mark.parametrize("residuals", [False, True])
def test_f16_variant_is_as_near_as_f16_allows(exported, residuals):
    model, table, out = exported
    run = session(out, table["variants"]["residuals-fp16" if residuals else "fp16"])
    weights = {name: tensor.half().numpy() for name, tensor in model.weights.items()}
    feed = step(table, 2, 10, 16, 77)
    given = {name: value if name == "timestep" else value.astype(np.float16) for name, value in feed.items() if residuals or "residual" not in name}
    got = run.run(None, given | weights)[0].astype(np.float32)
    assert relative(got, reference(model, feed, residuals)) < 2e-2


def test_timesteps_keep_their_f32_precision_in_the_f16_variant(exported):
    """999 and 998.6 are one number in f16, and sines of large angles differ by much more than rounding."""
    model, table, out = exported
    run = session(out, table["variants"]["fp16"])
    weights = {name: tensor.half().numpy() for name, tensor in model.weights.items()}
    feed = step(table, 1, 8, 8, 77)
    given = {name: value if name == "timestep" else value.astype(np.float16) for name, value in feed.items() if "residual" not in name}
    given["timestep"] = np.array([998.6], np.float32)
    first = run.run(None, given | weights)[0].astype(np.float32)
    feed["timestep"] = given["timestep"]
    assert relative(first, reference(model, feed, False)) < 2e-2
    given["timestep"] = np.array([999.0], np.float32)
    assert np.abs(run.run(None, given | weights)[0].astype(np.float32) - first).max() > 0


def test_every_parameter_is_an_input_and_no_initialiser_holds_one(exported):
    import onnx

    model, table, out = exported
    for file in table["variants"].values():
        graph = onnx.load(out / file).graph
        inputs = {value.name for value in graph.input}
        assert set(model.weights) <= inputs
        assert not graph.initializer
        used = {name for node in graph.node for name in node.input}
        assert inputs <= used, f"unused inputs: {sorted(inputs - used)[:3]}"
        constants = [attribute.t for node in graph.node if node.op_type == "Constant" for attribute in node.attribute]
        assert max(np.prod(tensor.dims or [1]) for tensor in constants) <= 1024


def test_graph_json_describes_the_files(exported):
    import onnx

    model, table, out = exported
    assert json.loads((out / "graph.json").read_text()) == table
    assert [row["parameter"] for row in table["refitMap"]] == sorted(model.shapes)
    graph = onnx.load(out / table["variants"]["residuals-fp16"]).graph
    listed = [item["name"] for item in [*table["inputs"], *table["residuals"]]]
    assert [value.name for value in graph.input][: len(listed)] == listed
    types = {value.name: value.type.tensor_type.elem_type for value in graph.input}
    assert types.pop("timestep") == onnx.TensorProto.FLOAT
    assert set(types.values()) == {onnx.TensorProto.FLOAT16}
