"""Params of host calls that hold more than one field. `protocol.CHECKS` has seen them: here is only what a schema cannot say."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Mapping

from ..failure import expect
from ..files.checkpoint import CheckpointSource
from ..files.delta import StackFile
from . import protocol


@dataclass(frozen=True)
class Plan:
    """`partial`: the plan starts from known weights. `stack`: adapter and strength, in order. `writes`: parameters, in order."""

    partial: bool
    full: bool
    stack: tuple[tuple[str, float], ...]
    writes: tuple[str, ...]

    @staticmethod
    def parse(row: protocol.RefitPlan) -> "Plan":
        stack = tuple((item["sha256"], float(item["strength"])) for item in row["to"]["stack"])
        return Plan(row["from"] is not None, row["full"], stack, tuple(write["parameter"] for write in row["writes"]))


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
    def parse(row: protocol.LoadParams, sources: "Sources") -> "LoadParams":
        graph, shapes, steps = row["graph"], row.get("parameters"), row.get("steps") or False
        expect(
            (graph is None) == (shapes is not None),
            "HOST_INVALID_PARAMS",
            "load: expected parameters without a graph, or a graph without parameters",
        )
        expect(not steps or shapes is not None, "HOST_INVALID_PARAMS", "load: expected steps only without a graph")
        return LoadParams(
            row["engine"],
            None if graph is None else (Path(graph["folder"]), graph["variant"]),
            None if shapes is None else {name: tuple(dims) for name, dims in shapes.items()},
            steps,
            row["weightDtype"],
            sources.parse(row["checkpoint"]),
            tuple(map(StackFile.parse, row["stack"])),
            row.get("verify") or False,
            row.get("adapterLoss"),
        )


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
    def parse(row: protocol.PrepareParams, sources: "Sources") -> "PrepareParams":
        checkpoint = row["checkpoint"]
        return PrepareParams(
            row["engine"],
            row["generation"],
            Plan.parse(row["plan"]),
            None if checkpoint is None else sources.parse(checkpoint),
            tuple(map(StackFile.parse, row["stack"])),
            row.get("verify") or False,
            row.get("adapterLoss"),
        )


class Sources:
    """Parses checkpoint sources, and knows the last one again: every refit of a run carries the same table of thousands of rows."""

    def __init__(self) -> None:
        self._raw: protocol.CheckpointSource | None = None
        self._parsed: CheckpointSource | None = None

    def parse(self, value: protocol.CheckpointSource) -> CheckpointSource:
        if self._parsed is None or value != self._raw:
            self._parsed = CheckpointSource.parse(value)
            self._raw = value
        return self._parsed
