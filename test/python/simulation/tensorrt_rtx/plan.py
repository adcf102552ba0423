"""The serialised engine of the simulation: a JSON header, the ONNX model, and the weights that were not stripped."""

from __future__ import annotations

import json
import math
import struct
from dataclasses import asdict, dataclass
from typing import Sequence

import device

MAGIC = b"SIMPLAN2"
BYTES_PER_CELL = 4096
HUNGRY_BYTES_PER_CELL = 12288


def scratch_bytes(sample: Sequence[int]) -> int:
    """What a step on a sample of this shape takes beside the weights."""
    return (HUNGRY_BYTES_PER_CELL if "hungry-steps" in device.FAULTS else BYTES_PER_CELL) * math.prod(sample)


@dataclass(frozen=True)
class Header:
    """`refit`: "individual", "all", "identical" or "". `refittable`: names; `kept`: weights in the file, in order, with their bytes."""

    version: str
    capabilities: list[str]
    refit: str
    refittable: list[str]
    stripped: bool
    kept: list[tuple[str, int]]
    profiles: list[dict[str, list[list[int]]]]


def pack(header: Header, model: bytes, weights: bytes) -> bytes:
    text = json.dumps(asdict(header)).encode()
    return MAGIC + struct.pack("<QQ", len(text), len(model)) + text + model + weights


def unpack(data: bytes) -> tuple[Header, bytes, bytes] | None:
    """None when these are no whole engine's bytes."""
    if data[: len(MAGIC)] != MAGIC or len(data) < len(MAGIC) + 16:
        return None
    text, model = struct.unpack_from("<QQ", data, len(MAGIC))
    at = len(MAGIC) + 16
    try:
        header = Header(**json.loads(data[at : at + text]))
    except (ValueError, TypeError):
        return None
    rest = data[at + text + model :]
    if len(rest) != sum(size for _, size in header.kept):
        return None
    return header, data[at + text : at + text + model], rest
