"""Reads an adapter's factors into one block of memory, by several threads: each factor is read, compared with its checksum and looked through while it is in
a core's cache. The block is pinned when it is full: memory that is there already is pinned in a fraction of the time."""

from __future__ import annotations

import math
import os
import zlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..failure import HostFailure, expect
from ..files.delta import DeltaFile
from ..files.dtypes import TORCH_OF_FILE
from ..files.safetensors_header import Entry
from .host_memory import in_huge_pages
from .peaks import peak

# Threads that read factors; reading, checksums and numpy let each other run.
READERS = min(8, max(4, (os.cpu_count() or 4) // 2))
# Bytes that a thread takes at a time.
SHARE_BYTES = 4 << 20


class Span(NamedTuple):
    """A factor, and where it goes in the block."""

    name: str
    begin: int
    entry: Entry


class _Found(NamedTuple):
    name: str
    whole: bool
    largest: float


def read_factors(file: DeltaFile, spans: Iterable[Span], nbytes: int) -> tuple[Tensor, dict[str, float]]:
    """A block of `nbytes` (uint8) with every factor at its place, and max |factor| by name. Raises HOST_DELTA_INVALID for a file that ended early or a
    factor that is not what was written, HOST_NON_FINITE for an adapter with NaN or infinity: a live engine refuses it."""
    block = torch.empty(nbytes, dtype=torch.uint8)
    in_huge_pages(block)
    view = memoryview(block.numpy())
    ordered = sorted(spans, key=lambda span: span.entry.begin)

    def look(share: Sequence[Span]) -> list[_Found]:
        out = []
        with file.path.open("rb", buffering=0) as source:
            for name, begin, entry in share:
                raw = view[begin : begin + entry.end - entry.begin]
                source.seek(entry.begin)
                _fill(source, raw)
                out.append(_Found(name, zlib.crc32(raw) == file.checks[name][0], _largest(raw, entry.dtype)))
        return out

    try:
        with ThreadPoolExecutor(READERS, thread_name_prefix="refit-look") as pool:
            found = [one for rows in pool.map(look, _shares(ordered)) for one in rows]
    except (OSError, EOFError) as error:
        raise HostFailure("HOST_DELTA_INVALID", "the delta file could not be read to its end", {"name": file.path.name}) from error
    bad = next((one.name for one in found if not one.whole), None)
    expect(
        bad is None,
        "HOST_DELTA_INVALID",
        "a factor's bytes have changed since they were written; the delta is rebuilt from the adapter",
        factor=bad,
    )
    sick = next((one.name for one in found if not (file.checks[one.name][1] and math.isfinite(one.largest))), None)
    expect(
        sick is None,
        "HOST_NON_FINITE",
        f"factor {sick} of the adapter holds NaN or infinity; a live engine refuses it. Remove the adapter.",
        factor=sick,
        adapter=file.adapter,
    )
    return block, {one.name: one.largest for one in found}


def _shares(spans: Sequence[Span]) -> list[list[Span]]:
    """Neighbours in the file, about SHARE_BYTES of them together."""
    out: list[list[Span]] = []
    left = 0
    for span in spans:
        if left <= 0:
            out.append([])
            left = SHARE_BYTES
        out[-1].append(span)
        left -= span.entry.end - span.entry.begin
    return out


def _largest(raw: memoryview, dtype: str) -> float:
    """Largest magnitude; NaN where there is one. Without its sign, a float's bits are in the order of the numbers."""
    if not raw.nbytes:
        return 0.0
    if dtype == "F32":
        return float((np.frombuffer(raw, np.uint32) & 0x7FFFFFFF).max().view(np.float32))
    if dtype not in ("F16", "BF16"):
        return float(peak(torch.frombuffer(raw, dtype=torch.uint8).view(TORCH_OF_FILE[dtype]).float()))
    bits = (np.frombuffer(raw, np.uint16) & 0x7FFF).max()
    return float(bits.view(np.float16)) if dtype == "F16" else float((bits.astype(np.uint32) << np.uint32(16)).view(np.float32))


def _fill(source, target: memoryview) -> None:
    done = 0
    while done < target.nbytes:
        got = source.readinto(target[done:])
        if not got:
            raise EOFError
        done += got
