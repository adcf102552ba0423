"""Writes pictures [n, 1, 16, 16] in [-1, 1] as one PNG grid, to look at."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import torch
import torch.nn.functional as F

SCALE = 4
GAP = 4


def grid_png(pictures: torch.Tensor, path: Path, columns: int = 8) -> None:
    large = F.interpolate(pictures, scale_factor=SCALE, mode="nearest")
    large = F.pad(large, (GAP, GAP, GAP, GAP), value=-0.3)
    rows = [torch.cat(list(row), dim=-1) for row in large.split(columns)]
    grey = (torch.cat(rows, dim=-2)[0] * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8)
    height, width = grey.shape
    lines = b"".join(b"\0" + bytes(line.tolist()) for line in grey)

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines, 9)) + chunk(b"IEND", b""))
