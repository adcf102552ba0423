"""Quantised storage of checkpoints as the host reads it: every layout against comfy-kitchen's own tensors, and what does not fit is refused by name."""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch
from engines import CPU
from refit_host.failure import HostFailure
from refit_host.files.checkpoint import CheckpointReader, CheckpointSource
from refit_host.rotation import hadamard, is_group, rotate
from refit_host.weights.layout import Layout
from refit_host.weights.stream import Ring, stream
from refit_host.wire.protocol import CHECKS
from safetensors.torch import save_file

kitchen = pytest.importorskip("comfy_kitchen.tensor", reason="comfy-kitchen, the reference of the layouts, is not installed")

# name -> (comfy-kitchen's layout, its options, our storage)
LAYOUTS: dict[str, tuple[Any, dict[str, Any], dict[str, Any]]] = {
    "fp8": (kitchen.TensorCoreFP8Layout, {}, {"format": "scaled"}),
    "fp8 e5m2": (kitchen.TensorCoreFP8Layout, {"dtype": torch.float8_e5m2}, {"format": "scaled"}),
    "int8": (kitchen.TensorWiseINT8Layout, {}, {"format": "scaled"}),
    "int8 per row": (kitchen.TensorWiseINT8Layout, {"per_channel": True}, {"format": "scaled"}),
    "int8 turned": (
        kitchen.TensorWiseINT8Layout,
        {"per_channel": True, "convrot": True, "convrot_groupsize": 16},
        {"format": "scaled", "rotation": 16},
    ),
    "nvfp4": (kitchen.TensorCoreNVFP4Layout, {}, {"format": "nvfp4", "scale2": "x.weight_scale_2"}),
    "mxfp8": (kitchen.TensorCoreMXFP8Layout, {}, {"format": "mxfp8"}),
}
CONTAINERS = {
    torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2", torch.int8: "I8", torch.uint8: "U8", torch.float32: "F32", torch.bfloat16: "BF16",
}  # fmt: skip


def source(folder, tensors: dict[str, torch.Tensor], rows: dict[str, dict[str, Any]]) -> CheckpointSource:
    path = folder / "checkpoint.safetensors"
    save_file({name: value.contiguous() for name, value in tensors.items()}, path)
    stat = path.stat()
    files = [{"path": str(path), "sizeBytes": stat.st_size, "mtimeNs": str(stat.st_mtime_ns), "inode": str(os.stat(path).st_ino)}]
    described = {"files": files, "parameters": rows}
    # As a call brings it: the check of the params first.
    plan = {"from": None, "to": {"checkpoint": "c", "stack": []}, "full": True, "writes": []}
    CHECKS["prepare"]({"engine": "e", "generation": 1, "plan": plan, "checkpoint": described, "stack": []}, "prepare")
    return CheckpointSource.parse(described)


def whole(value: torch.Tensor, shape, key: str = "x.weight", start: int = 0, **more) -> dict[str, Any]:
    return {"file": 0, "key": key, "dtype": CONTAINERS[value.dtype], "start": start, "length": shape[0], "swapHalves": False, **more}


def read(where: CheckpointSource, **options) -> dict[str, torch.Tensor]:
    out: dict[str, torch.Tensor] = {}
    layout = Layout.build({name: parameter.shape for name, parameter in where.parameters.items()}, torch.float32)
    stream(
        CheckpointReader(where), layout.slots, Ring(CPU), lambda slot, value: out.__setitem__(slot.name, value.float().clone()), **options
    )
    return out


def quantised(name: str, value: torch.Tensor) -> tuple[dict[str, torch.Tensor], dict[str, Any], torch.Tensor]:
    """Tensors of a layer x, its storage, and comfy-kitchen's value of it."""
    kind, options, storage = LAYOUTS[name]
    codes, params = kind.quantize(value, **options)
    tensors = {f"x.weight{suffix}": tensor for suffix, tensor in kind.state_dict_tensors(codes, params).items()}
    return tensors, {**storage, "scale": "x.weight_scale"}, kind.dequantize(codes, params)[: value.shape[0], : value.shape[1]]


@pytest.mark.parametrize("shape", [(48, 64), (40, 80), (272, 320)])
@pytest.mark.parametrize("name", LAYOUTS)
def test_values_are_those_of_comfy_kitchen(tmp_path, name, shape):
    value = torch.randn(shape, generator=torch.Generator().manual_seed(1)) * torch.logspace(-2, 1, shape[0])[:, None]
    tensors, storage, expected = quantised(name, value)
    where = source(tmp_path, tensors, {"x.weight": {"shape": list(shape), "pieces": [whole(tensors["x.weight"], shape, storage=storage)]}})
    assert torch.allclose(read(where)["x.weight"], expected, rtol=1e-6, atol=1e-6)


def test_scales_of_blocks_may_be_plain_bytes_and_columns_may_have_factors_of_their_own(tmp_path):
    value, columns = torch.randn(32, 64, generator=torch.Generator().manual_seed(2)), torch.linspace(0.5, 2, 64)
    for name in ("nvfp4", "mxfp8", "int8 turned"):
        tensors, storage, expected = quantised(name, value)
        tensors = {**tensors, "x.pre_quant_scale": columns}
        if name != "int8 turned":
            tensors["x.weight_scale"] = tensors["x.weight_scale"].view(torch.uint8)
        row = whole(tensors["x.weight"], (32, 64), storage={**storage, "columnScale": "x.pre_quant_scale"})
        got = read(source(tmp_path, tensors, {"x.weight": {"shape": [32, 64], "pieces": [row]}}))["x.weight"]
        assert torch.allclose(got, expected * columns, rtol=1e-6, atol=1e-6), name


def test_pieces_join_as_codes_with_the_scale_of_each(tmp_path):
    make = torch.Generator().manual_seed(3)
    codes = [torch.randint(-127, 128, (rows, 32), generator=make, dtype=torch.int8) for rows in (16, 32)]
    tensors = {
        "q.weight": codes[0],
        "k.weight": codes[1],
        "q.weight_scale": torch.tensor(0.5),
        "k.weight_scale": torch.linspace(1, 2, 32).view(32, 1),
    }
    pieces = [
        whole(codes[0], (16,), "q.weight", storage={"format": "scaled", "scale": "q.weight_scale"}),
        whole(codes[1], (32,), "k.weight", 16, storage={"format": "scaled", "scale": "k.weight_scale"}) | {"swapHalves": True},
    ]
    second = codes[1].float() * tensors["k.weight_scale"]
    expected = torch.cat([codes[0].float() * 0.5, second[16:], second[:16]])
    where = source(tmp_path, tensors, {"x": {"shape": [48, 32], "pieces": pieces}})
    assert torch.equal(read(where)["x"], expected)
    kept: list[torch.Tensor] = []
    read(where, coded=lambda slot, value: kept.append(value.parts["codes"].clone()))
    assert torch.equal(kept[0], torch.cat([codes[0], codes[1][16:], codes[1][:16]]))


@pytest.mark.parametrize(
    ("storage", "dtype", "code"),
    [
        ({"format": "scaled", "scale": "x.weight_scale"}, "F8_E4M3", "HOST_FILE_CHANGED"),
        ({"format": "awq", "scale": "x.weight_scale"}, "I8", "HOST_INVALID_PARAMS"),
        ({"format": "scaled", "scale": "x.weight_scale", "rotation": 48}, "I8", "HOST_INVALID_PARAMS"),
        ({"format": "scaled", "scale": "gone"}, "I8", "HOST_FILE_CHANGED"),
        ({"format": "nvfp4", "scale": "x.weight_scale"}, "U8", "HOST_INVALID_PARAMS"),
        (None, "I8", "HOST_INVALID_PARAMS"),
        ({"format": "scaled", "scale": "three"}, "I8", "HOST_FILE_INVALID"),
        ({"format": "scaled", "scale": "infinite"}, "I8", "HOST_FILE_INVALID"),
        ({"format": "scaled", "scale": "one of the rows"}, "I8", "HOST_FILE_INVALID"),
        ({"format": "scaled", "scale": "x.weight_scale", "columnScale": "infinite"}, "I8", "HOST_FILE_INVALID"),
        ({"format": "scaled", "scale": "x.weight_scale", "rotation": 64}, "I8", "HOST_FILE_INVALID"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, storage, dtype, code):
    tensors = {
        "x.weight": torch.zeros(16, 32, dtype=torch.int8),
        "x.weight_scale": torch.tensor(1.0),
        "three": torch.ones(3),
        "infinite": torch.tensor(float("inf")),
        "one of the rows": torch.ones(16).index_fill(0, torch.tensor([7]), float("nan")),
    }
    row = {
        "file": 0,
        "key": "x.weight",
        "dtype": dtype,
        "start": 0,
        "length": 16,
        "swapHalves": False,
        **({"storage": storage} if storage else {}),
    }
    with pytest.raises(HostFailure) as failure:
        read(source(tmp_path, tensors, {"x.weight": {"shape": [16, 32], "pieces": [row]}}))
    assert failure.value.code == code


def test_the_rotation_is_symmetric_and_its_own_inverse():
    assert [size for size in range(300) if is_group(size)] == [4, 16, 64, 256]
    turn = hadamard(64, CPU)
    assert torch.equal(turn, turn.T)
    value = torch.randn(5, 128)
    assert torch.allclose(rotate(rotate(value, 64), 64), value, atol=1e-6)
