"""SD3, Flux and Wan: refit maps against diffusers' own converters, and exported graphs against diffusers' numbers."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from diffusers import FluxPipeline, FluxTransformer2DModel, SD3Transformer2DModel, WanTransformer3DModel
from diffusers.loaders import single_file_utils
from graph_runs import relative, session
from refit_graphs.bundle import export_bundle
from refit_graphs.errors import UnsupportedStructure
from refit_graphs.families import plan
from refit_graphs.header import Shapes
from transformer_structures import flux, flux_fill, golden_header, random_weights, sd3, sd35_medium, shrink, through_refit_map, wan

CASES = {
    "sd3": sd3,
    "sd35-medium": sd35_medium,
    "flux-dev": flux,
    "flux-schnell": lambda: flux("flux-schnell"),
    "flux-fill": flux_fill,
    "wan21-t2v": lambda: wan("wan21-t2v-1.3b"),
    "wan21-i2v": lambda: wan("wan21-i2v-14b"),
    "wan22-i2v": lambda: wan("wan22-i2v-14b"),
}
CONVERTERS = {
    "sd3": single_file_utils.convert_sd3_transformer_checkpoint_to_diffusers,
    "flux": single_file_utils.convert_flux_transformer_checkpoint_to_diffusers,
    "wan": single_file_utils.convert_wan_transformer_to_diffusers,
}
CLASSES = {"sd3": SD3Transformer2DModel, "flux": FluxTransformer2DModel, "wan": WanTransformer3DModel}
SHAPES = {
    "sd3": [(1, 8, 8, 77), (2, 12, 20, 154), (3, 6, 24, 5)],
    "flux": [(1, 8, 8, 64), (2, 12, 20, 33), (3, 2, 24, 5)],
    "wan": [(1, 8, 8, 77), (2, 12, 4, 512), (3, 6, 10, 5)],
}


@pytest.mark.parametrize(
    "header", ["sd3-medium", "sd35-large", "flux-dev", "flux-schnell", "wan21-t2v-1.3b", "wan21-t2v-14b", "wan21-i2v-14b", "wan22-i2v-14b"]
)
def test_the_refit_map_of_a_real_header_equals_diffusers_converter(header):
    """Every parameter is replaced by its row numbers plus an own offset, so slices, orders and swaps are compared row by row."""
    shapes = golden_header(header)
    model = plan(shapes)
    rows = {name: torch.arange(shape[0], dtype=torch.int32) + 30_000 * i for i, (name, shape) in enumerate(shapes.items())}
    converted = CONVERTERS[model.family](dict(rows))
    assert converted.keys() == model.weights.keys()
    by_weight = {row["weight"]: row for row in model.refit_map}
    for module_name, weight in model.weights.items():
        row = by_weight[weight]
        mine = rows[row["parameter"]]
        if part := row["slice"]:
            mine = mine[part["start"] : part["start"] + part["length"]]
        if row["swapHalves"]:
            mine = torch.cat(mine.chunk(2)[::-1])
        assert torch.equal(mine, converted[module_name]), module_name


def step(model, batch: int, height: int, width: int, tokens: int) -> dict[str, np.ndarray]:
    sizes = {"batch": batch, "height": height, "width": width, "tokens": tokens, "frames": 2 * batch - 1, "image_tokens": 11}
    draw = np.random.default_rng(7)
    feed = {
        item.name: (0.5 * draw.standard_normal([sizes.get(axis, axis) for axis in item.axes])).astype(np.float32) for item in model.inputs
    }
    feed["timestep"] = draw.uniform(0, 1 if model.family == "flux" else 999, batch).astype(np.float32)
    if "guidance" in feed:
        feed["guidance"] = draw.uniform(1, 5, batch).astype(np.float32)
    return feed


def diffusers(model, state: dict[str, torch.Tensor], feed: dict[str, np.ndarray]) -> np.ndarray:
    """diffusers itself, packed and unpacked as its pipelines do it."""
    module = CLASSES[model.family](**model.config).eval()
    module.load_state_dict(state)
    given = {name: torch.tensor(value) for name, value in feed.items()}
    with torch.no_grad():
        if model.family == "sd3":
            return module(given["sample"], given["encoder_hidden_states"], given["y"], given["timestep"]).sample.numpy()
        if model.family == "wan":
            return module(
                given["sample"], given["timestep"], given["encoder_hidden_states"], given.get("encoder_hidden_states_image")
            ).sample.numpy()
        batch, channels, height, width = given["sample"].shape
        out = module(
            FluxPipeline._pack_latents(given["sample"], batch, channels, height, width),
            given["encoder_hidden_states"],
            given["y"],
            given["timestep"],
            FluxPipeline._prepare_latent_image_ids(batch, height // 2, width // 2, "cpu", torch.float32),
            torch.zeros(given["encoder_hidden_states"].shape[1], 3),
            given.get("guidance"),
        ).sample
        # The pipeline's unpack counts pixels, 8 to a latent.
        return FluxPipeline._unpack_latents(out, height * 8, width * 8, 8).numpy()


# One of each family, the one with most parts; the others run with the long tests.
QUICK = ("sd35-medium", "flux-dev", "wan21-i2v")


@pytest.fixture(scope="module", params=[name if name in QUICK else pytest.param(name, marks=pytest.mark.e2e) for name in CASES])
def bundle(request, tmp_path_factory):
    shapes: Shapes = CASES[request.param]()
    out = tmp_path_factory.mktemp("graphs") / request.param
    table = export_bundle(shapes, request.param, out, lambda text: None)
    model, weights = plan(shapes), random_weights(shapes)
    inputs = through_refit_map(model, weights)
    state = {module_name: inputs[weight] for module_name, weight in model.weights.items()}
    return model, inputs, state, table, out


def run(bundle, precision: str, feed: dict[str, np.ndarray]) -> np.ndarray:
    _, inputs, _, table, out = bundle
    graph = session(out / table["variants"][precision])
    types = {item.name: np.float16 if item.type == "tensor(float16)" else np.float32 for item in graph.get_inputs()}
    given = {name: value.astype(types[name]) for name, value in (feed | {name: tensor.numpy() for name, tensor in inputs.items()}).items()}
    return graph.run(None, given)[0].astype(np.float32)


def test_f32_variant_equals_diffusers_for_every_shape(bundle):
    model, _, state, _, _ = bundle
    for batch, height, width, tokens in SHAPES[model.family]:
        if model.config.get("image_dim"):
            # diffusers itself takes the last 512 tokens for the text where there are picture tokens.
            tokens = 512
        feed = step(model, batch, height, width, tokens)
        error = relative(run(bundle, "fp32", feed), diffusers(model, state, feed))
        assert error < 1e-4, f"batch {batch}, {height}x{width}, {tokens} tokens: relative error {error:.2e}"


def test_f16_variant_is_as_near_as_f16_allows(bundle):
    model, _, state, _, _ = bundle
    feed = step(model, *SHAPES[model.family][1])
    assert relative(run(bundle, "fp16", feed), diffusers(model, state, feed)) < 3e-2


def test_bf16_variant_is_the_f16_graph_in_another_type(bundle):
    """ONNX Runtime's CPU provider has no bf16 kernels, so the graph is compared, not run."""
    *_, table, out = bundle
    half, brain = (onnx.load(out / table["variants"][precision]).graph for precision in ("fp16", "bf16"))
    assert [(node.op_type, list(node.input), list(node.output)) for node in half.node if node.op_type != "Constant"] == [
        (node.op_type, list(node.input), list(node.output)) for node in brain.node if node.op_type != "Constant"
    ]
    types = {value.name: value.type.tensor_type.elem_type for value in brain.input}
    assert types.pop("timestep") == onnx.TensorProto.FLOAT
    types.pop("guidance", None)
    assert set(types.values()) == {onnx.TensorProto.BFLOAT16}


def test_every_weight_is_an_input_and_no_constant_holds_one(bundle):
    model, inputs, _, table, out = bundle
    for file in table["variants"].values():
        graph = onnx.load(out / file).graph
        assert {value.name for value in graph.input} == set(inputs) | {item.name for item in model.inputs}
        assert not graph.initializer
        constants = [attribute.t for node in graph.node if node.op_type == "Constant" for attribute in node.attribute]
        assert max(np.prod(tensor.dims or [1]) for tensor in constants) <= 1024


def test_timesteps_and_guidance_keep_their_f32_precision_in_the_f16_variant(bundle):
    model, _, state, _, _ = bundle
    feed = step(model, *SHAPES[model.family][0])
    # Two neighbours that f16 rounds to one number.
    near = (0.9001, 0.9003) if model.family == "flux" else (901.1, 901.2)
    outputs = [run(bundle, "fp16", feed | {"timestep": np.array([when], np.float32)}) for when in near]
    assert np.abs(outputs[0] - outputs[1]).max() > 0


@pytest.mark.parametrize(
    "shapes",
    [
        golden_header("sd3-medium") | {"joint_blocks.3.x_block.novel.weight": (4, 4)},
        {name: shape for name, shape in golden_header("sd3-medium").items() if not name.startswith("y_embedder")},
        golden_header("flux-dev") | {"double_blocks.0.img_attn.novel.weight": (4, 4)},
        golden_header("flux-dev") | {"double_blocks.0.img_attn.norm.key_norm.scale": (100,)},
        {name: shape for name, shape in golden_header("flux-dev").items() if not name.startswith("vector_in")},
        golden_header("wan21-t2v-14b") | {"vace_patch_embedding.weight": (5120, 96, 1, 2, 2)},
        {name: shape for name, shape in golden_header("wan21-t2v-14b").items() if not name.startswith("text_embedding")},
        shrink(golden_header("wan21-t2v-14b"), {13824: 13825}, {"blocks": {0: 0}}) | {"blocks.0.ffn.2.bias": (5,)},
    ],
)
def test_a_header_with_parts_too_many_or_missing_is_refused(shapes):
    with pytest.raises(UnsupportedStructure, match="not supported"):
        plan(shapes)
