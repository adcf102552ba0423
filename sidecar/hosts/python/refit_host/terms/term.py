"""Terms as data: the Python side of sidecar/src/terms/types.ts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping

from ..failure import HostFailure, expect
from ..wire import check

# kind -> (required factors, optional factors)
FACTORS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "lowRank": (("up", "down"), ("mid",)),
    "hadamard": (("w1a", "w1b", "w2a", "w2b"), ("t1", "t2")),
    "kronecker": ((), ("w1", "w1a", "w1b", "w2", "w2a", "w2b", "t2")),
    "glora": (("a1", "a2", "b1", "b2"), ()),
    "orthogonal": (("blocks",), ("rescale",)),
    "dense": (("value",), ()),
    "set": (("value",), ()),
    "channelScale": (("value",), ()),
}
SCALED = frozenset({"lowRank", "hadamard", "kronecker", "glora"})


@dataclass(frozen=True)
class Term:
    """One addend (or replacement) for a parameter or for rows of it. `factors`: role -> tensor name in the delta file."""

    kind: str
    parameter: str
    slice: tuple[int, int] | None
    swap_halves: bool
    scale: float
    factors: Mapping[str, str]
    dora: str | None
    variant: str | None
    constraint: float | None
    axis: str | None
    pad_to: tuple[int, ...] | None

    @property
    def names(self) -> list[str]:
        """Every factor tensor that the term refers to."""
        return [*self.factors.values(), *([self.dora] if self.dora else [])]


def parse_term(value: Any) -> Term:
    """Checks one term of a delta file. Raises HOST_INVALID_PARAMS naming the field."""
    row = check.obj(value, "term")
    kind = check.text(row, "kind")
    if kind not in FACTORS:
        raise HostFailure("HOST_INVALID_PARAMS", f"unknown term kind {kind!r}; this host is older than the delta file", {"kind": kind})
    target = check.obj(row.get("target"), "term.target")
    required, optional = FACTORS[kind]
    factors = {role: check.text(row, role) for role in required}
    factors |= {role: check.text(row, role) for role in optional if row.get(role) is not None}
    rows = target.get("slice")
    span = None if rows is None else (check.whole(check.obj(rows, "slice"), "start"), check.whole(rows, "length"))
    constraint = row.get("constraint")
    variant, axis = check.text_or_none(row, "variant"), check.text_or_none(row, "axis")
    expect(kind != "orthogonal" or variant in ("oft", "boft"), "HOST_INVALID_PARAMS", "orthogonal: expected oft or boft")
    expect(kind != "channelScale" or axis in ("rows", "columns"), "HOST_INVALID_PARAMS", "channelScale: expected rows or columns")
    return Term(
        kind=kind, parameter=check.text(target, "parameter"), slice=span, swap_halves=check.flag(target, "swapHalves"),
        scale=check.number(row, "scale") if kind in SCALED else 1.0, factors=factors,
        dora=check.text_or_none(row, "doraScale"), variant=variant,
        constraint=None if constraint is None else check.number(row, "constraint"), axis=axis,
        pad_to=None if row.get("padTo") is None else check.shape(row["padTo"], "padTo"),
    )  # fmt: skip
