"""How a file stores a matrix in fewer bits: what lies beside its codes, and the values that both give (docs/develop/quantised.md).

All arithmetic is f32; a value is the code times its scales, rounded once.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Callable, Mapping, Sequence

import torch
from torch import Tensor

from ..failure import HostFailure, expect
from ..rotation import is_group, rotate
from ..wire import protocol

# code x scale; e2m1 in blocks of 16; e4m3 in blocks of 32.
CODE_DTYPES = {"scaled": ("F8_E4M3", "F8_E5M2", "I8", "F16", "BF16", "F32"), "nvfp4": ("U8",), "mxfp8": ("F8_E4M3",)}
BLOCK = {"nvfp4": 16, "mxfp8": 32}
# Rows and columns of a tile of block scales.
TILE_ROWS, TILE_COLS = 128, 4
# Codes that an engine's format has too.
KINDS = {torch.float8_e4m3fn: "fp8", torch.int8: "int8"}
# Values of the e2m1 codes 0..7; bit 3 is the sign.
E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)


@dataclass(frozen=True)
class Storage:
    """Keys are those of tensors of the same file. `column_scale`: one factor per column, multiplied onto the values. `rotation`: columns of a group that was turned before it
    was rounded; 0: none."""

    format: str
    scale: str
    scale2: str | None = None
    column_scale: str | None = None
    rotation: int = 0

    @property
    def keys(self) -> tuple[str, ...]:
        """Every tensor that it refers to."""
        return tuple(key for key in (self.scale, self.scale2, self.column_scale) if key is not None)

    @staticmethod
    def parse(row: protocol.CheckpointSourceParametersValuePieceStorage, where: str) -> "Storage":
        form, rotation = row["format"], row.get("rotation") or 0
        expect(
            rotation == 0 or (form == "scaled" and is_group(rotation)),
            "HOST_INVALID_PARAMS",
            f"{where}: no rotation by groups of {rotation}",
        )
        scale2 = row.get("scale2")
        expect((scale2 is not None) == (form == "nvfp4"), "HOST_INVALID_PARAMS", f"{where}: expected scale2 for nvfp4 and for nothing else")
        return Storage(form, row["scale"], scale2, row.get("columnScale"), rotation)


@dataclass(frozen=True)
class Coded:
    """A matrix as codes and scales, every part with the matrix's rows first. `kind`: `fp8`, `int8` and `nvfp4` have the parts of the engine's format of that
    name (refit_host/quant), `other` codes are no engine's. `rotation`: groups of columns that are turned (0: none)."""

    kind: str
    parts: Mapping[str, Tensor]
    rotation: int

    def value(self) -> Tensor:
        """f32 [rows, cols]."""
        scale = self.parts["scale"]
        if self.kind == "nvfp4":
            return nvfp4_values(self.parts["codes"], self.parts["block_scale"], scale)
        value = self.parts["codes"].float() * scale
        return rotate(value, self.rotation) if self.rotation else value

    def of_rows(self, change: Callable[[Tensor], Tensor]) -> "Coded":
        """The same with rows chosen or moved. One-byte parts are handed over as bytes: torch has no cat for fp8."""
        return Coded(self.kind, {name: change(_plain(part)).view(part.dtype) for name, part in self.parts.items()}, self.rotation)

    @staticmethod
    def joined(several: Sequence["Coded"]) -> "Coded":
        """Rows one below the other; all of one kind."""
        first = several[0]
        return Coded(
            first.kind,
            {name: torch.cat([_plain(each.parts[name]) for each in several]).view(part.dtype) for name, part in first.parts.items()},
            first.rotation,
        )


def _plain(part: Tensor) -> Tensor:
    return part.view(torch.uint8) if part.dtype.itemsize == 1 else part


def stored_shape_fits(storage: Storage, stored: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """Whether a tensor of the file can hold a parameter of this shape: the same, or (in blocks) padded and packed."""
    if storage.format == "scaled":
        return stored == shape
    if len(stored) != 2 or len(shape) != 2:
        return False
    cols = stored[1] * (2 if storage.format == "nvfp4" else 1)
    return shape[0] <= stored[0] and shape[1] <= cols and cols % BLOCK[storage.format] == 0


def scaled(name: str, codes: Tensor, scale: Tensor, rotation: int) -> Coded:
    """`codes` of any shape with one scale, or one per row, as a matrix. Raises HOST_FILE_INVALID."""
    rows = codes.shape[0] if codes.dim() else 1
    expect(
        scale.numel() in (1, rows),
        "HOST_FILE_INVALID",
        f"{name}: expected one scale or one per row ({rows}), the file has {scale.numel()}",
        parameter=name,
    )
    flat = codes.reshape(rows, -1)
    expect(
        rotation == 0 or flat.shape[1] % rotation == 0,
        "HOST_FILE_INVALID",
        f"{name}: its {flat.shape[1]} columns are no groups of {rotation}",
        parameter=name,
    )
    return Coded(
        KINDS.get(codes.dtype, "other"), {"codes": flat, "scale": scale.float().reshape(-1, 1).expand(rows, 1).contiguous()}, rotation
    )


def untiled(scales: Tensor, rows: int, cols: int) -> Tensor:
    """The scales of blocks [rows, cols] out of tiles of 128 x 4, in which row r, column c is at byte (r % 32) * 16 + (r // 32) * 4 + c."""
    down, across = -(-rows // TILE_ROWS), -(-cols // TILE_COLS)
    tiles = scales.reshape(-1)[: down * across * TILE_ROWS * TILE_COLS].view(down, across, 32, 4, 4)
    return tiles.permute(0, 3, 2, 1, 4).reshape(down * TILE_ROWS, across * TILE_COLS)[:rows, :cols]


@lru_cache
def e2m1_values(device: torch.device) -> Tensor:
    """Value of each of the 16 codes; made once per device, because a CUDA graph cannot hold a copy from ordinary host memory."""
    return torch.tensor([*E2M1, *(-value for value in E2M1)], device=device)


def nvfp4_values(codes: Tensor, block_scale: Tensor, scale: Tensor) -> Tensor:
    """f32 [rows, cols] of packed e2m1 codes (the left one in the low half), one e4m3 scale per 16 columns and one f32 scale per row."""
    digits = torch.stack([codes & 15, codes >> 4], dim=-1).flatten(-2)
    step = (block_scale.float() * scale)[..., None]
    return (e2m1_values(codes.device)[digits.long()].unflatten(-1, (-1, 16)) * step).flatten(-2)


def blocks(name: str, storage: Storage, codes: Tensor, scale: Tensor, scale2: Tensor | None, shape: tuple[int, ...]) -> Coded | Tensor:
    """A matrix stored in blocks: nvfp4 as codes, mxfp8 as f32 values (which bf16 holds exactly). `codes`, `scale`: as in the file, bytes. Raises HOST_FILE_INVALID."""
    packed = storage.format == "nvfp4"
    rows, cols = codes.shape[0], codes.shape[1] * (2 if packed else 1)
    count = cols // BLOCK[storage.format]
    room = -(-rows // TILE_ROWS) * TILE_ROWS * -(-count // TILE_COLS) * TILE_COLS
    expect(
        scale.numel() == room,
        "HOST_FILE_INVALID",
        f"{name}: expected {room} scales of blocks, the file has {scale.numel()}",
        parameter=name,
    )
    steps = untiled(scale.view(torch.uint8), rows, count)
    if not packed:
        value = codes.view(torch.float8_e4m3fn).float().unflatten(-1, (-1, 32)) * torch.exp2(steps.float() - 127)[..., None]
        return value.flatten(-2)[: shape[0], : shape[1]]
    if scale2 is None or scale2.numel() != 1:
        raise HostFailure("HOST_FILE_INVALID", f"{name}: expected one weight_scale_2", {"parameter": name})
    # The file has the left code in the high half.
    turned = (codes >> 4) | (codes << 4)
    parts = {
        "codes": turned,
        "block_scale": steps.contiguous().view(torch.float8_e4m3fn),
        "scale": scale2.float().reshape(1, 1).expand(rows, 1).contiguous(),
    }
    whole = Coded("nvfp4", parts, 0)
    if shape[1] % BLOCK["nvfp4"]:
        return whole.value()[: shape[0], : shape[1]]
    return Coded("nvfp4", {"codes": turned[: shape[0], : shape[1] // 2], "block_scale": parts["block_scale"][: shape[0], : shape[1] // 16],
                           "scale": parts["scale"][: shape[0]]}, 0)  # fmt: skip


def check_dtype(name: str, storage: Storage | None, dtype: str, plain: frozenset[str]) -> None:
    """Raises HOST_INVALID_PARAMS for a container that holds no weights."""
    fits = dtype in (plain if storage is None else CODE_DTYPES[storage.format])
    if not fits:
        raise HostFailure(
            "HOST_INVALID_PARAMS", f"{name}: {dtype} holds no weights" + ("" if storage is None else f" in {storage.format} storage")
        )
