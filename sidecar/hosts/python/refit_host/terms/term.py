"""Terms as data: the Python side of sidecar/src/terms/types.ts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping

from ..failure import HostFailure, expect
from ..wire import check

# kind -> (required factors, optional factors, other fields)
KINDS: dict[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    "lowRank": (("up", "down"), ("mid",), ("scale", "padTo")),
    "hadamard": (("w1a", "w1b", "w2a", "w2b"), ("t1", "t2"), ("scale",)),
    "kronecker": ((), ("w1", "w1a", "w1b", "w2", "w2a", "w2b", "t2"), ("scale",)),
    "glora": (("a1", "a2", "b1", "b2"), (), ("scale",)),
    "orthogonal": (("blocks",), ("rescale",), ("variant", "constraint", "strengthOnce")),
    "dense": (("value",), (), ()),
    "set": (("value",), (), ()),
    "channelScale": (("value",), (), ("axis",)),
}
COMMON = frozenset({"kind", "target", "doraScale", "doraNorm", "sourceKeys"})


@dataclass(frozen=True, eq=False)
class Term:
    """One addend (or replacement) for a parameter or for rows of it. `factors`: role -> tensor name in the delta file."""

    kind: str
    parameter: str
    slice: tuple[int, int] | None
    swap_halves: bool
    scale: float
    factors: Mapping[str, str]
    dora: str | None
    dora_merged: bool
    variant: str | None
    constraint: float | None
    strength_once: bool
    axis: str | None
    pad_to: tuple[int, ...] | None

    @property
    def names(self) -> list[str]:
        """Every factor tensor that the term refers to."""
        return [*self.factors.values(), *([self.dora] if self.dora else [])]


def _invalid(message: str, **evidence: Any) -> HostFailure:
    return HostFailure("HOST_DELTA_INVALID", f"{message}; the delta is rebuilt from the adapter", evidence)


def parse_term(value: Any) -> Term:
    """Checks one term of a delta file. An unknown field is refused, because it changes what the term means. Raises HostFailure."""
    row = check.obj(value, "term")
    kind = check.text(row, "kind")
    if kind not in KINDS:
        raise _invalid(f"unknown kind of term {kind!r}", kind=kind)
    required, optional, fields = KINDS[kind]
    odd = sorted(set(row) - COMMON - {*required, *optional, *fields})
    expect(not odd, "HOST_DELTA_INVALID", f"a {kind} term has unknown fields; the delta is rebuilt from the adapter", fields=odd)
    target = check.obj(row.get("target"), "term.target")
    odd = sorted(set(target) - {"parameter", "slice", "swapHalves"})
    expect(not odd, "HOST_DELTA_INVALID", "a term's target has unknown fields; the delta is rebuilt from the adapter", fields=odd)
    factors = {role: check.text(row, role) for role in required}
    factors |= {role: check.text(row, role) for role in optional if row.get(role) is not None}
    rows = target.get("slice")
    span = None if rows is None else (check.whole(check.obj(rows, "slice"), "start"), check.whole(rows, "length"))
    constraint, norm = row.get("constraint"), check.text_or_none(row, "doraNorm")
    variant, axis = check.text_or_none(row, "variant"), check.text_or_none(row, "axis")
    expect(norm in (None, "merged"), "HOST_DELTA_INVALID", f"unknown doraNorm {norm!r}; the delta is rebuilt from the adapter")
    expect(kind != "orthogonal" or variant in ("oft", "boft"), "HOST_DELTA_INVALID", "orthogonal: expected oft or boft")
    expect(kind != "channelScale" or axis in ("rows", "columns"), "HOST_DELTA_INVALID", "channelScale: expected rows or columns")
    return Term(
        kind=kind, parameter=check.text(target, "parameter"), slice=span, swap_halves=check.flag(target, "swapHalves"),
        scale=check.number(row, "scale") if "scale" in fields else 1.0, factors=factors,
        dora=check.text_or_none(row, "doraScale"), dora_merged=norm == "merged", variant=variant,
        constraint=None if constraint is None else check.number(row, "constraint"), strength_once=check.flag(row, "strengthOnce"), axis=axis,
        pad_to=None if row.get("padTo") is None else check.shape(row["padTo"], "padTo"),
    )  # fmt: skip
