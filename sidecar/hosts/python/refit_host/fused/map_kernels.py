"""The operations of maps.py in Triton: a map is read once for the norm's sums and once for the norm itself.

Sums are kept as mean and squared distance from it for each channel of each stretch of places, and put together by Chan's formula: exact also where the mean is large.
"""

# pyright: reportIndexIssue=false
# A Triton kernel is called through an index, which a function does not have.
from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .maps import TIMELESS, Groups, Time, channels_last
from .put import KINDS, put
from .rows import Rows

# Places and channels of a tile; warps of a program. The fastest of those that the bench tries on an H200 (bench/gpu, piece "fused_unet_parts").
PLACES, CHANNELS, MAP_WARPS = 32, 64, 4
# The same where places are summed: one tile is a stretch, so that all of it is read at once.
SUM_PLACES, SUM_WARPS = 128, 8
# Stretches that one program puts together; where there would be more, each is as many tiles, one after the other.
STRETCHES, MORE = tl.constexpr(32), 4
# Columns of a program of `geglu` without codes.
GEGLU_COLUMNS, GEGLU_WARPS = 512, 4


# Sizes of a picture make no other kernel: a new size is no compilation.
@triton.jit(do_not_specialize=["places"])
def _sums(x, means, squares, places, channels, STEPS: tl.constexpr, PLACES: tl.constexpr, CHANNELS: tl.constexpr):
    """Mean, and summed squared distance from it, of each channel over a stretch of STEPS * PLACES places."""
    stretch, batch = tl.program_id(0), tl.program_id(2).to(tl.int64)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    inside = channel < channels
    mean = tl.zeros([CHANNELS], tl.float32)
    square = tl.zeros([CHANNELS], tl.float32)
    seen = 0.0
    for step in range(STEPS):
        place = (stretch * STEPS + step) * PLACES + tl.arange(0, PLACES)
        there = (place < places)[:, None] & inside[None, :]
        value = tl.load(x + (batch * places + place)[:, None] * channels + channel[None, :], mask=there, other=0.0).to(tl.float32)
        count = tl.minimum(tl.maximum(places - (stretch * STEPS + step) * PLACES, 0), PLACES).to(tl.float32)
        new = tl.sum(value, axis=0) / tl.maximum(count, 1.0)
        apart = tl.where(there, value - new[None, :], 0.0)
        both = tl.maximum(seen + count, 1.0)
        change = new - mean
        square += tl.sum(apart * apart, axis=0) + change * change * (seen * count / both)
        mean += change * (count / both)
        seen += count
    at = (batch * tl.num_programs(0) + stretch) * channels + channel
    tl.store(means + at, mean, mask=inside)
    tl.store(squares + at, square, mask=inside)


@triton.jit(do_not_specialize=["places", "stretch_places", "stretches"])
def _factors(
    means, squares, weight, bias, before, added, scale, shift, factors, places, channels, stretch_places, stretches, width, added_batch, scale_batch, eps,
    BIASES: tl.constexpr, ADDS: tl.constexpr, SCALES: tl.constexpr, SHIFTS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """The norm of one group as a factor and a summand for each of its channels."""
    group, batch = tl.program_id(0), tl.program_id(1).to(tl.int64)
    within = tl.arange(0, WIDTH)
    channel = group * width + within
    inside = within < width
    stretch = tl.arange(0, STRETCHES)
    count = tl.minimum(tl.maximum(places - stretch * stretch_places, 0), stretch_places).to(tl.float32)
    there = (stretch < stretches)[:, None] & inside[None, :]
    at = (batch * stretches + stretch)[:, None] * channels + channel[None, :]
    moved = tl.zeros([WIDTH], tl.float32)
    if BIASES:
        moved += tl.load(before + channel, mask=inside, other=0.0).to(tl.float32)
    if ADDS:
        moved += tl.load(added + batch * added_batch + channel, mask=inside, other=0.0).to(tl.float32)
    weighed = tl.where(there, count[:, None], 0.0)
    value = tl.load(means + at, mask=there, other=0.0) + moved[None, :]
    total = places * width
    mean = tl.sum(tl.sum(value * weighed, axis=1), axis=0) / total
    apart = value - mean
    square = tl.load(squares + at, mask=there, other=0.0) + weighed * apart * apart
    factor = tl.rsqrt(tl.sum(tl.sum(square, axis=1), axis=0) / total + eps) * tl.load(weight + channel, mask=inside, other=0.0).to(
        tl.float32
    )
    summand = tl.load(bias + channel, mask=inside, other=0.0).to(tl.float32) + (moved - mean) * factor
    if SCALES:
        turned = 1.0 + tl.load(scale + batch * scale_batch + channel, mask=inside, other=0.0).to(tl.float32)
        factor *= turned
        summand *= turned
    if SHIFTS:
        summand += tl.load(shift + batch * scale_batch + channel, mask=inside, other=0.0).to(tl.float32)
    tl.store(factors + batch * 2 * channels + channel, factor, mask=inside)
    tl.store(factors + (batch * 2 + 1) * channels + channel, summand, mask=inside)


@triton.jit(do_not_specialize=["places"])
def _scaled(x, factors, out, places, channels, SILU: tl.constexpr, PLACES: tl.constexpr, CHANNELS: tl.constexpr):
    batch = tl.program_id(2).to(tl.int64)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    place = tl.program_id(0) * PLACES + tl.arange(0, PLACES)
    inside = channel < channels
    there = (place < places)[:, None] & inside[None, :]
    at = (batch * places + place)[:, None] * channels + channel[None, :]
    factor = tl.load(factors + batch * 2 * channels + channel, mask=inside, other=0.0)
    summand = tl.load(factors + (batch * 2 + 1) * channels + channel, mask=inside, other=0.0)
    value = tl.load(x + at, mask=there, other=0.0).to(tl.float32) * factor[None, :] + summand[None, :]
    if SILU:
        value *= tl.sigmoid(value)
    tl.store(out + at, value.to(out.dtype.element_ty), mask=there)


@triton.jit(do_not_specialize=["places"])
def _added(x, y, bias, out, places, channels, SUMS: tl.constexpr, BIASES: tl.constexpr, PLACES: tl.constexpr, CHANNELS: tl.constexpr):
    """`places`: of all batches."""
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    place = tl.program_id(0).to(tl.int64) * PLACES + tl.arange(0, PLACES)
    inside = channel < channels
    there = (place < places)[:, None] & inside[None, :]
    at = place[:, None] * channels + channel[None, :]
    value = tl.load(x + at, mask=there, other=0.0).to(tl.float32)
    if SUMS:
        value += tl.load(y + at, mask=there, other=0.0).to(tl.float32)
    if BIASES:
        value += tl.load(bias + channel, mask=inside, other=0.0).to(tl.float32)[None, :]
    tl.store(out + at, value.to(out.dtype.element_ty), mask=there)


@triton.jit(do_not_specialize=["places"])
def _joined(x, y, out, places, left, right, PLACES: tl.constexpr, CHANNELS: tl.constexpr):
    """`places`: of all batches; `left`, `right`: channels of x and of y."""
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    place = tl.program_id(0).to(tl.int64) * PLACES + tl.arange(0, PLACES)
    there = (place < places)[:, None] & (channel < left + right)[None, :]
    first = (channel < left)[None, :]
    value = tl.load(x + place[:, None] * left + channel[None, :], mask=there & first, other=0.0)
    value += tl.load(y + place[:, None] * right + (channel - left)[None, :], mask=there & (channel >= left)[None, :], other=0.0)
    tl.store(out + place[:, None] * (left + right) + channel[None, :], value, mask=there)


@triton.jit(do_not_specialize=["places", "width"])
def _doubled(x, out, places, width, channels, PLACES: tl.constexpr, CHANNELS: tl.constexpr):
    """`places`, `width`: of the small map; every program writes what its places become."""
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    place = tl.program_id(0).to(tl.int64) * PLACES + tl.arange(0, PLACES)
    there = (place < places)[:, None] & (channel < channels)[None, :]
    value = tl.load(x + place[:, None] * channels + channel[None, :], mask=there)
    corner = place // width * 4 * width + place % width * 2
    for down in tl.static_range(2):
        for across in tl.static_range(2):
            tl.store(out + (corner + down * 2 * width + across)[:, None] * channels + channel[None, :], value, mask=there)


@triton.jit
def _geglu(both, out, scales, cols, CODES: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = at < cols
    gate = tl.load(both + row * 2 * cols + cols + at, mask=inside, other=0.0).to(tl.float32)
    gate *= 0.5 + 0.5 * tl.erf(gate * 0.7071067811865476)
    put(gate * tl.load(both + row * 2 * cols + at, mask=inside, other=0.0).to(tl.float32), out, scales, row, at, inside, cols, CODES)


def _tiles(places: int, channels: int) -> tuple[int, int]:
    return triton.cdiv(places, PLACES), triton.cdiv(channels, CHANNELS)


class KernelMapOperations:
    """For CUDA tensors."""

    def norm_map(self, x: Tensor, groups: Groups, *, bias: Tensor | None = None, time: Time = TIMELESS, silu: bool = True) -> Tensor:
        x = channels_last(x)
        batch, channels, height, across = x.shape
        places, width = height * across, channels // groups.number
        steps = 1
        while places > SUM_PLACES * steps * STRETCHES.value:
            steps *= MORE
        stretches = triton.cdiv(places, SUM_PLACES * steps)
        means, squares = x.new_empty(2, batch, stretches, channels, dtype=torch.float32)
        columns = triton.cdiv(channels, CHANNELS)
        tile = {"PLACES": SUM_PLACES, "CHANNELS": CHANNELS, "num_warps": SUM_WARPS}
        _sums[(stretches, columns, batch)](x, means, squares, places, channels, STEPS=steps, **tile)
        factors = x.new_empty(batch, 2, channels, dtype=torch.float32)
        there = {
            "BIASES": bias is not None,
            "ADDS": time.added is not None,
            "SCALES": time.scale is not None,
            "SHIFTS": time.shift is not None,
        }
        # What is not there has a place that nobody looks at.
        before, added, scale, shift = (factors if one is None else one for one in (bias, *time))
        assert added.stride(-1) == scale.stride(-1) == shift.stride(-1) == 1
        assert time.scale is None or time.shift is None or scale.stride(0) == shift.stride(0)
        along = triton.next_power_of_2(width)
        _factors[(groups.number, batch)](
            means, squares, groups.weight, groups.bias, before, added, scale, shift, factors, places, channels, steps * SUM_PLACES, stretches, width,
            added.stride(0), shift.stride(0) if time.scale is None else scale.stride(0), groups.eps, WIDTH=along, num_warps=MAP_WARPS, **there,
        )  # fmt: skip
        out = torch.empty_like(x)
        tile = {"PLACES": PLACES, "CHANNELS": CHANNELS, "num_warps": MAP_WARPS}
        _scaled[(*_tiles(places, channels), batch)](x, factors, out, places, channels, SILU=silu, **tile)
        return out

    def add_map(self, x: Tensor, y: Tensor | None, bias: Tensor | None = None) -> Tensor:
        x = channels_last(x)
        other = x if y is None else channels_last(y)
        batch, channels, height, across = x.shape
        out, places = torch.empty_like(x), batch * height * across
        tile = {"PLACES": PLACES, "CHANNELS": CHANNELS, "num_warps": MAP_WARPS}
        there = {"SUMS": y is not None, "BIASES": bias is not None}
        _added[_tiles(places, channels)](x, other, x if bias is None else bias, out, places, channels, **there, **tile)
        return out

    def join_maps(self, x: Tensor, y: Tensor) -> Tensor:
        x, y = channels_last(x), channels_last(y)
        batch, left, height, across = x.shape
        right, places = y.shape[1], batch * height * across
        assert y.shape == (batch, right, height, across)
        out = torch.empty((batch, left + right, height, across), dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
        _joined[_tiles(places, left + right)](x, y, out, places, left, right, PLACES=PLACES, CHANNELS=CHANNELS, num_warps=MAP_WARPS)
        return out

    def double_map(self, x: Tensor) -> Tensor:
        x = channels_last(x)
        batch, channels, height, width = x.shape
        out, places = (
            torch.empty((batch, channels, 2 * height, 2 * width), dtype=x.dtype, device=x.device, memory_format=torch.channels_last),
            batch * height * width,
        )
        _doubled[_tiles(places, channels)](x, out, places, width, channels, PLACES=PLACES, CHANNELS=CHANNELS, num_warps=MAP_WARPS)
        return out

    def geglu(self, both: Tensor, *, codes: torch.dtype | None) -> Rows:
        rows, cols = both.shape[0], both.shape[1] // 2
        assert both.is_contiguous()
        out = both.new_empty(rows, cols, dtype=codes or both.dtype)
        scales = out if codes is None else both.new_empty(rows, 1, dtype=torch.float32)
        block, warps = (GEGLU_COLUMNS, GEGLU_WARPS) if codes is None else (triton.next_power_of_2(cols), 2 * GEGLU_WARPS)
        _geglu[(rows, triton.cdiv(cols, block))](both, out, scales, cols, CODES=KINDS[codes], BLOCK=block, num_warps=warps)
        return out if codes is None else (out, scales)
