"""Attention of many tokens to few words in Triton: all words lie in one tile, so nothing is gone through twice. General kernels take twice as long for it."""

# pyright: reportIndexIssue=false
from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

# Tokens and warps of a program.
TOKENS, WARPS = 128, 8
# More words than that, or wider heads, are left to PyTorch.
MOST_WORDS, MOST_WIDTH = 128, 128


@triton.jit(do_not_specialize=["tokens", "words"])
def _read(
    query, key, value, out, tokens, words, heads, query_batch, query_row, key_batch, key_row, value_batch, value_row, scale,
    WIDTH: tl.constexpr, ACROSS: tl.constexpr, TOKENS: tl.constexpr, WORDS: tl.constexpr,
):  # fmt: skip
    batch, head = (tl.program_id(1) // heads).to(tl.int64), tl.program_id(1) % heads
    token = (tl.program_id(0) * TOKENS + tl.arange(0, TOKENS))[:, None]
    word, across = tl.arange(0, WORDS), tl.arange(0, ACROSS)
    column = (head * WIDTH + across)[None, :]
    asks = (token < tokens) & (across < WIDTH)[None, :]
    says = (word < words)[:, None] & (across < WIDTH)[None, :]
    asked = tl.load(query + batch * query_batch + token * query_row + column, mask=asks, other=0.0)
    keys = tl.load(key + batch * key_batch + word[:, None] * key_row + column, mask=says, other=0.0)
    values = tl.load(value + batch * value_batch + word[:, None] * value_row + column, mask=says, other=0.0)
    # Exact products also where values are f32.
    score = tl.dot(asked, tl.trans(keys), input_precision="ieee") * scale
    score = tl.where((word < words)[None, :], score, float("-inf"))
    weight = tl.exp2(score - tl.max(score, axis=1)[:, None])
    total = tl.sum(weight, axis=1)[:, None]
    said = tl.dot(weight.to(values.dtype), values, input_precision="ieee") / total
    tl.store(out + (batch * tokens + token) * heads * WIDTH + column, said.to(out.dtype.element_ty), mask=asks)


def reads(query: Tensor, key: Tensor) -> bool:
    """Whether the kernel takes these."""
    return key.shape[1] <= MOST_WORDS and 16 <= query.shape[3] <= MOST_WIDTH and query.shape[2] == key.shape[2]


def read(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Scaled dot product of [batch, tokens, heads, width] with few keys and values -> [batch, tokens, heads * width]."""
    batch, tokens, heads, width = query.shape
    words = key.shape[1]
    assert all(each.stride(3) == 1 and each.stride(2) == width for each in (query, key, value))
    out = torch.empty((batch, tokens, heads * width), dtype=query.dtype, device=query.device)
    _read[(triton.cdiv(tokens, TOKENS), batch * heads)](
        query, key, value, out, tokens, words, heads, query.stride(0), query.stride(1), key.stride(0), key.stride(1), value.stride(0), value.stride(1),
        math.log2(math.e) / math.sqrt(width), WIDTH=width, ACROSS=triton.next_power_of_2(width), TOKENS=TOKENS,
        WORDS=max(16, triton.next_power_of_2(words)), num_warps=WARPS,
    )  # fmt: skip
    return out
