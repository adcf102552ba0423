"""Delta of one term on one value: f32 in, f32 out, strength not included. Shapes: W [o, i, k...]; flat(X) keeps dim 0."""

from __future__ import annotations

from typing import Callable, Mapping

import torch
from torch import Tensor

Factors = Mapping[str, Tensor]


def _flat(value: Tensor) -> Tensor:
    return value.reshape(value.shape[0], -1)


def low_rank(weight: Tensor, f: Factors) -> Tensor:
    """up [o, r, 1..] x down [r, i, k..]; with `mid` [r, r, kh, kw] the tucker form."""
    up, down = _flat(f["up"]), _flat(f["down"])
    if "mid" in f:
        return torch.einsum("oa,abxy,bi->oixy", up, f["mid"], down).reshape(weight.shape)
    return (up @ down).reshape(weight.shape)


def hadamard(weight: Tensor, f: Factors) -> Tensor:
    """(w1a w1b) * (w2a w2b); tucker form with t1, t2 [r, r, kh, kw] and w*a [r, o]."""
    if "t1" in f and "t2" in f:
        one = torch.einsum("abxy,ao,bi->oixy", f["t1"], f["w1a"], f["w1b"])
        two = torch.einsum("abxy,ao,bi->oixy", f["t2"], f["w2a"], f["w2b"])
    else:
        one, two = f["w1a"] @ f["w1b"], f["w2a"] @ f["w2b"]
    return (one * two).reshape(weight.shape)


def kronecker(weight: Tensor, f: Factors) -> Tensor:
    """w1 (x) w2, each whole or as a product; w2 also tucker with t2 [r, r, kh, kw] and w2a [r, o2]."""
    one = f["w1"] if "w1" in f else f["w1a"] @ f["w1b"]
    if "w2" in f:
        two = f["w2"]
    elif "t2" in f:
        two = torch.einsum("abxy,ao,bi->oixy", f["t2"], f["w2a"], f["w2b"])
    else:
        two = _flat(f["w2a"]) @ _flat(f["w2b"])
    if two.dim() == 4:
        one = one[:, :, None, None]
    return torch.kron(one, two.contiguous()).reshape(weight.shape)


def glora(weight: Tensor, f: Factors) -> Tensor:
    """W a + b. Two layouts told apart by shapes; the new one wins unless W is square and a2 has o rows."""
    a1, a2, b1, b2 = (_flat(f[key]) for key in ("a1", "a2", "b1", "b2"))
    old = b2.shape[1] == b1.shape[0] == a1.shape[0] == a2.shape[1]
    new = b2.shape[0] == b1.shape[1] == a1.shape[1] == a2.shape[0]
    square = weight.shape[0] == weight[0].numel()
    if new and not (old and square and a2.shape[0] == weight.shape[0]):
        inner = torch.einsum("oi...,ir,rj->oj...", weight, a1, a2)
        return inner + (b1 @ b2).reshape(weight.shape)
    return ((b2 @ b1) + (_flat(weight) @ a2) @ a1).reshape(weight.shape)


def _rotations(blocks: Tensor, constraint: float) -> Tensor:
    """R with (I - q) R = I + q, q = B - B^T, q's norm over all blocks limited to `constraint` when that is positive.

    Solved in f64: that is where blocks of a few hundred rows would lose digits.
    """
    q = (blocks - blocks.transpose(-1, -2)).double()
    if constraint > 0:
        norm = torch.linalg.vector_norm(q) + 1e-8
        q = q * torch.where(norm > constraint, constraint / norm, torch.ones_like(norm))
    eye = torch.eye(blocks.shape[-1], dtype=q.dtype, device=q.device)
    return torch.linalg.solve(eye - q, eye + q).float()


def oft(weight: Tensor, blocks: Tensor, constraint: float, factor: float, rescale: Tensor | None) -> Tensor:
    """change[k*b+m] = factor * sum_n (R_k[n, m] - [n = m]) W[k*b+n]; blocks [nb, b, b] with nb*b = o."""
    count, size, _ = blocks.shape
    turn = _rotations(blocks, constraint) - torch.eye(size, dtype=weight.dtype, device=weight.device)
    rows = weight.reshape(count, size, -1)
    change = factor * torch.einsum("knm,knx->kmx", turn, rows).reshape(weight.shape)
    return change if rescale is None else rescale * (weight + change) - weight


def boft(weight: Tensor, blocks: Tensor, constraint: float, strength: float, rescale: Tensor | None) -> Tensor:
    """x - W, where x is W after m butterfly stages of blocks [m, nb, b, b], each (s R + (1 - s) I) on permuted rows."""
    stages, count, size, _ = blocks.shape
    turns = _rotations(blocks, constraint)
    eye = torch.eye(size, dtype=weight.dtype, device=weight.device)
    x = weight.reshape(weight.shape[0], -1)
    for stage in range(stages):
        half = (1 << stage) * size // 2
        turn = strength * turns[stage] + (1 - strength) * eye
        grouped = x.reshape(-1, 2, half, x.shape[-1]).transpose(1, 2)
        mixed = torch.einsum("kmn,knx->kmx", turn, grouped.reshape(count, size, -1))
        x = mixed.reshape(grouped.shape).transpose(1, 2).reshape(x.shape)
    x = x.reshape(weight.shape)
    return (x if rescale is None else x * rescale) - weight


ADDITIVE: dict[str, Callable[[Tensor, Factors], Tensor]] = {
    "lowRank": low_rank, "hadamard": hadamard, "kronecker": kronecker, "glora": glora,
}  # fmt: skip
