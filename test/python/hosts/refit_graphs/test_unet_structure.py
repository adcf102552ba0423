"""Names, configuration and structure of UNets, read off headers: shipped layouts, cut-down relatives, and headers that fit nothing."""

from __future__ import annotations

import onnx
import pytest
import torch
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint
from graph_runs import diffusers, exported, relative, session, step
from graph_structures import ROOT, shipped, shipped_shapes, tiny, tiny_shapes
from refit_graphs.bundle import export_bundle
from refit_graphs.errors import UnsupportedStructure
from refit_graphs.families import plan
from refit_graphs.header import canonical_shapes, structure_hash
from refit_graphs.unet_config import plan_unet
from refit_graphs.unet_names import diffusers_name

STANDARD = ["sd15", "sd2", "sdxl", "sdxl-refiner", "demo"]
SSD_1B = {
    "widths": [64, 64, 128],
    "transformer_layers_per_block": [1, [2, 2], [4, 4]],
    "reverse_transformer_layers_per_block": [[4, 4, 10], [2, 1, 1], 1],
    "mid_block_type": "UNetMidBlock2D",
}
VEGA = {
    "widths": [64, 64, 128],
    "transformer_layers_per_block": [1, 1, 2],
    "reverse_transformer_layers_per_block": [2, 1, 1],
    "mid_block_type": "UNetMidBlock2D",
}
ONE_LEVEL = {
    "widths": [64],
    "down_block_types": ["CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D"],
    "layers_per_block": 1,
    "transformer_layers_per_block": [1],
    "reverse_transformer_layers_per_block": [1],
    "mid_block_type": None,
}
TWO_LEVELS = {
    "widths": [32, 32],
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
    "layers_per_block": [1, 2],
    "transformer_layers_per_block": [1, 1],
    "reverse_transformer_layers_per_block": [1, 1],
}
RELATIVES = {
    "ssd-1b": ("sdxl", SSD_1B),
    "vega": ("sdxl", VEGA),
    "inpaint": ("sd15", {"widths": [32, 32, 64, 64], "in_channels": 9}),
    "narrow-text": ("sdxl", VEGA | {"cross_attention_dim": 48, "projection_class_embeddings_input_dim": 72}),
    "one-level": ("sd15", ONE_LEVEL),
    "two-levels": ("sd15", TWO_LEVELS),
    "unclip": (
        "sd2",
        {
            "widths": [64, 64, 64, 64],
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": 1536,
        },
    ),
}


@pytest.mark.parametrize("layout", STANDARD)
def test_names_equal_diffusers_own_converter(layout):
    shapes = shipped_shapes(layout)
    config = shipped(layout)["config"]
    checkpoint = {f"model.diffusion_model.{name}": torch.full((1,), float(i)) for i, name in enumerate(shapes)}
    converted = convert_ldm_unet_checkpoint(checkpoint, config | {"layers_per_block": config["layers_per_block"][0]})
    theirs = {int(tensor): name for name, tensor in converted.items()}
    assert [diffusers_name(name, config["layers_per_block"]) for name in shapes] == [theirs[i] for i in range(len(shapes))]


@pytest.mark.parametrize("layout", STANDARD)
def test_shipped_bundles_fit_their_own_header(layout):
    table, shapes = shipped(layout), shipped_shapes(layout)
    assert structure_hash(shapes) == table["structure"]
    assert plan(shapes).config == table["config"]
    assert plan(shapes).family == table["family"]


# The other relatives differ in the same ways; they run with the long tests.
QUICK = ("one-level",)


@pytest.mark.parametrize("relative_name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.e2e) for name in RELATIVES])
def test_relatives_are_derived_from_their_header_and_compute_the_same(relative_name, tmp_path):
    layout, options = RELATIVES[relative_name]
    model = tiny(layout, **options)
    table = export_bundle(model.shapes, relative_name, tmp_path / "bundle", lambda text: None)
    assert table["family"] == layout
    for residuals in (False, True):
        run = session(tmp_path / "bundle" / table["variants"]["residuals-fp32" if residuals else "fp32"])
        feed = step(table, 2, 12, 9, 77)
        assert relative(exported(run, model, feed, residuals), diffusers(model, feed, residuals)) < 1e-4


@pytest.mark.e2e
def test_the_shipped_demo_bundle_is_what_the_exporter_makes(tmp_path):
    """Guards against an exporter that changed without `tools/graphs/standard.py`; the other bundles come from the same code."""
    table = export_bundle(shipped_shapes("demo"), "demo", tmp_path / "demo", lambda text: None)
    assert table == shipped("demo")
    for file in table["variants"].values():
        assert onnx.load(tmp_path / "demo" / file).graph == onnx.load(ROOT / "sidecar/graphs/demo" / file).graph, file


def test_a_checkpoint_header_is_reduced_to_the_diffusion_model():
    shapes = shipped_shapes("demo")
    header = {f"model.diffusion_model.{name}": {"dtype": "F16", "shape": list(shape)} for name, shape in shapes.items()}
    extra = {
        "first_stage_model.decoder.conv_in.weight": {"dtype": "F16", "shape": [4, 4]},
        "model.diffusion_model.scaled_fp8": {"dtype": "F8_E4M3", "shape": [2]},
    }
    scales = {"model.diffusion_model.out.2.scale_weight": {"dtype": "F32", "shape": []}}
    assert canonical_shapes(header | extra | scales) == shapes
    assert canonical_shapes({name: {"dtype": "F16", "shape": list(shape)} for name, shape in shapes.items()}) == shapes


def test_structure_hash_is_the_hash_of_the_documented_text():
    import hashlib

    text = "a.weight\t2,3\nb\t\n"
    assert structure_hash({"b": (), "a.weight": (2, 3)}) == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize(
    "change, expected",
    [
        (lambda shapes: {"transformer.h.0.weight": (4, 4)}, "of another kind"),
        (lambda shapes: shapes | {"input_blocks.3.1.unknown.weight": (4, 4)}, "not supported"),
        (lambda shapes: shapes | {"input_blocks.4.0.in_layers.2.weight": (65, 32, 3, 3)}, "(65, 32, 3, 3)"),
        (lambda shapes: {name: shape for name, shape in shapes.items() if not name.startswith("input_blocks.2.1.")}, "mixture"),
        (lambda shapes: {name: shape for name, shape in shapes.items() if not name.startswith("input_blocks.5.")}, "input_blocks.5"),
        (lambda shapes: {name: shape for name, shape in shapes.items() if "attn2" not in name}, "text width"),
    ],
)
def test_a_header_that_fits_nothing_says_what_is_wrong(change, expected):
    with pytest.raises(UnsupportedStructure, match="not supported|cannot build|other|found") as caught:
        plan(change(shipped_shapes("demo")))
    assert expected in str(caught.value)


def test_a_middle_deeper_than_the_last_level_is_refused():
    shapes = tiny_shapes("sdxl", **(SSD_1B | {"mid_block_type": "UNetMidBlock2DCrossAttn"}))
    deeper = {
        name.replace("transformer_blocks.0.", f"transformer_blocks.{n}."): shape
        for name, shape in shapes.items()
        if name.startswith("middle_block.1.transformer_blocks.0.")
        for n in (4,)
    }
    with pytest.raises(UnsupportedStructure, match="the middle as deep"):
        plan_unet(shapes | deeper)
