"""The graph bundle's table: names, inputs and the refit map (docs/develop/internals.md). The ONNX files are the tensorrt host's business."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping

from ..failure import HostFailure, expect
from ..wire import check

# graph.json of an SDXL-sized model is about 400 KB; more than this is not one.
MAX_BYTES = 64 << 20


@dataclass(frozen=True)
class Row:
    """One weight of the graph: a parameter, or rows of it."""

    parameter: str
    weight: str
    shape: tuple[int, ...]
    rows: tuple[int, int] | None
    swap_halves: bool
    refittable: bool


@dataclass(frozen=True)
class Bundle:
    folder: Path
    name: str
    family: str
    structure: str
    variants: Mapping[str, str]
    inputs: tuple[dict[str, Any], ...]
    outputs: tuple[dict[str, Any], ...]
    residuals: tuple[dict[str, Any], ...]
    rows: tuple[Row, ...]

    @property
    def fixed(self) -> frozenset[str]:
        """Parameters that this graph cannot change."""
        return frozenset(row.parameter for row in self.rows if not row.refittable)

    @property
    def refit_map(self) -> list[dict[str, Any]]:
        """As plain values: stored with a compiled engine and compared when it is loaded."""
        return [{"parameter": row.parameter, "weight": row.weight, "shape": list(row.shape), "rows": None if row.rows is None else list(row.rows),
                 "swapHalves": row.swap_halves, "refittable": row.refittable} for row in self.rows]  # fmt: skip

    def file(self, variant: str) -> Path:
        """Path of a variant's model. Raises HOST_GRAPH_INVALID when the bundle lacks it."""
        name = self.variants.get(variant)
        if name is None:
            raise HostFailure(
                "HOST_GRAPH_INVALID",
                f"expected variant {variant} in graph {self.name}, it has {', '.join(self.variants)}",
                {"variant": variant},
            )
        return self.folder / name


def _row(value: Any) -> Row:
    row = check.obj(value, "refitMap row")
    rows = row.get("slice")
    span = None if rows is None else (check.whole(check.obj(rows, "slice"), "start"), check.whole(rows, "length"))
    expect(
        row.get("layout") == "as-is", "HOST_GRAPH_INVALID", f"unknown layout {row.get('layout')!r} in the refit map; export the graph again"
    )
    return Row(check.text(row, "parameter"), check.text(row, "weight"), check.shape(row.get("shape"), "shape"), span,
               check.flag(row, "swapHalves"), check.flag(row, "refittable"))  # fmt: skip


def read_bundle(folder: Path) -> Bundle:
    """Reads and checks graph.json. Raises HOST_GRAPH_INVALID."""
    try:
        path = folder / "graph.json"
        expect(path.stat().st_size <= MAX_BYTES, "HOST_GRAPH_INVALID", "graph.json is too large to be one; export the graph again")
        table = check.obj(json.loads(path.read_text(encoding="utf-8")), "graph.json")
        expect(table.get("formatVersion") == 1, "HOST_GRAPH_INVALID", "expected graph format 1; export the graph again")
        variants = {
            name: check.text(check.obj(table.get("variants"), "variants"), name) for name in check.obj(table.get("variants"), "variants")
        }
        outside = [name for name in variants.values() if "/" in name or "\\" in name]
        expect(not outside, "HOST_GRAPH_INVALID", "a variant lies outside the bundle's folder; export the graph again")
        ports = {
            key: tuple(check.obj(item, key) for item in check.arr(table.get(key, []), key)) for key in ("inputs", "outputs", "residuals")
        }
        rows = tuple(_row(item) for item in check.arr(table.get("refitMap"), "refitMap"))
        return Bundle(
            folder, check.text(table, "name"), check.text(table, "family"), check.text(table, "structure"), variants, **ports, rows=rows
        )
    except (OSError, ValueError, RecursionError) as error:
        raise HostFailure("HOST_GRAPH_INVALID", "expected a graph bundle with a readable graph.json; export the graph again") from error
    except HostFailure as error:
        if error.code == "HOST_INVALID_PARAMS":
            raise HostFailure(
                "HOST_GRAPH_INVALID", f"graph.json does not describe a graph: {error.message}. Export the graph again."
            ) from error
        raise


def check_bundle(bundle: Bundle, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Every row must fit the checkpoint's shapes. Raises HOST_GRAPH_INVALID naming the first that does not."""
    for row in bundle.rows:
        shape = shapes.get(row.parameter)
        height = shape[0] if shape else 1
        whole = row.rows is None and row.shape == shape
        part = shape is not None and row.rows is not None and row.shape == (row.rows[1], *shape[1:]) and sum(row.rows) <= height
        expect(whole or part, "HOST_GRAPH_INVALID",
               f"refit map, weight {row.weight}: it does not fit {row.parameter} of shape {None if shape is None else list(shape)}; the graph belongs to another "
               "structure, export it again", parameter=row.parameter)  # fmt: skip
