"""Params of host calls that hold more than one field, checked (schema: protocol/src/host/methods.ts)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping

from ..failure import expect
from ..files.checkpoint import CheckpointSource
from ..files.delta import StackFile
from . import check

WEIGHT_DTYPES = ("f32", "f16", "bf16", "fp8", "int8", "nvfp4")


@dataclass(frozen=True)
class Plan:
    """`partial`: the plan starts from known weights. `stack`: adapter and strength, in order. `writes`: parameters, in order."""

    partial: bool
    full: bool
    stack: tuple[tuple[str, float], ...]
    writes: tuple[str, ...]

    @staticmethod
    def parse(value: Any) -> "Plan":
        row = check.obj(value, "plan")
        to = check.obj(row.get("to"), "plan.to")
        check.text(to, "checkpoint")
        stack = tuple(
            (check.text(i, "sha256"), check.number(i, "strength")) for i in map(_item, check.arr(to.get("stack"), "plan.to.stack"))
        )
        writes = _names(check.arr(row.get("writes"), "plan.writes"))
        if row.get("from") is not None:
            check.obj(row["from"], "plan.from")
        return Plan(row.get("from") is not None, check.flag(row, "full"), stack, writes)


def _names(writes: list[Any]) -> tuple[str, ...]:
    """`parameter` of each; hundreds in every swap, so they are looked at one by one only when one is wrong."""
    names = tuple(write.get("parameter") if type(write) is dict else None for write in writes)
    if all(type(name) is str for name in names):
        return names  # pyright: ignore[reportReturnType]  all of them are text
    return tuple(check.text(_item(write), "parameter") for write in writes)


def _item(value: Any) -> dict[str, Any]:
    return check.obj(value, "list item")


@dataclass(frozen=True)
class LoadParams:
    """`steps`: without a graph, the engine gets the module that this host has for such a structure."""

    engine: str
    graph: tuple[Path, str] | None
    parameters: Mapping[str, tuple[int, ...]] | None
    steps: bool
    weight_dtype: str
    checkpoint: CheckpointSource
    stack: tuple[StackFile, ...]
    verify: bool
    adapter_loss: float | None

    @staticmethod
    def parse(row: dict[str, Any], sources: "Sources") -> "LoadParams":
        graph, shapes = row.get("graph"), row.get("parameters")
        expect(
            (graph is None) == (shapes is not None),
            "HOST_INVALID_PARAMS",
            "load: expected parameters without a graph, or a graph without parameters",
        )
        folder = None if graph is None else (Path(check.text(check.obj(graph, "graph"), "folder")), check.text(graph, "variant"))
        parameters = None if shapes is None else {name: check.shape(dims, name) for name, dims in check.obj(shapes, "parameters").items()}
        steps = check.flag(row, "steps")
        expect(not steps or parameters is not None, "HOST_INVALID_PARAMS", "load: expected steps only without a graph")
        dtype = check.text(row, "weightDtype")
        expect(dtype in WEIGHT_DTYPES, "HOST_INVALID_PARAMS", f"weightDtype: expected one of {', '.join(WEIGHT_DTYPES)}")
        return LoadParams(check.text(row, "engine"), folder, parameters, steps, dtype, sources.parse(row.get("checkpoint")), _stack(row), check.flag(row, "verify"),
                          _adapter_loss(row))  # fmt: skip


@dataclass(frozen=True)
class PrepareParams:
    """`checkpoint`: None for the one that the engine has. `adapter_loss`: share of an adapter's change that rounding may swallow, None for the host's own limit."""

    engine: str
    generation: int
    plan: Plan
    checkpoint: CheckpointSource | None
    stack: tuple[StackFile, ...]
    verify: bool
    adapter_loss: float | None

    @staticmethod
    def parse(row: dict[str, Any], sources: "Sources") -> "PrepareParams":
        checkpoint = None if row.get("checkpoint") is None else sources.parse(row["checkpoint"])
        return PrepareParams(
            check.text(row, "engine"), check.whole(row, "generation"), Plan.parse(row.get("plan")), checkpoint,
            _stack(row), check.flag(row, "verify"), _adapter_loss(row),
        )  # fmt: skip


def _stack(row: dict[str, Any]) -> tuple[StackFile, ...]:
    return tuple(StackFile.parse(item) for item in check.arr(row.get("stack"), "stack"))


def _adapter_loss(row: dict[str, Any]) -> float | None:
    if row.get("adapterLoss") is None:
        return None
    value = check.number(row, "adapterLoss")
    expect(0 <= value <= 1, "HOST_INVALID_PARAMS", f"adapterLoss: expected a share from 0 to 1, got {value}")
    return value


class Sources:
    """Parses checkpoint sources, and knows the last one again: every refit of a run carries the same table of thousands of rows."""

    def __init__(self) -> None:
        self._raw: Any = None
        self._parsed: CheckpointSource | None = None

    def parse(self, value: Any) -> CheckpointSource:
        if self._parsed is None or value != self._raw:
            self._parsed = CheckpointSource.parse(value)
            self._raw = value
        return self._parsed
