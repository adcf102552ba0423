"""`graph.json`: a structure's inputs, outputs and refit map. Needs no tracing: a host that steps on PyTorch's own modules reads nothing else of a bundle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from refit_host.checked.whole_file import replace_file

from .exportable import Exportable
from .families import plan
from .header import Shapes, structure_hash
from .weightless import OPSET

FORMAT_VERSION = 1


def model_files(model: Exportable) -> dict[str, str]:
    """Every variant and the file of its model."""
    kinds = ("", "residuals-") if model.residuals else ("",)
    return {
        f"{kind}{precision}": f"{model.file_stem}{'-residuals' if kind else ''}.{precision}.onnx"
        for kind in kinds
        for precision in model.precisions
    }


def write_table(shapes: Shapes, name: str, out: Path) -> dict[str, Any]:
    """The table alone, with the variants that an export would have. Raises UnsupportedStructure."""
    model = plan(shapes)
    table = describe(model, shapes, name, model_files(model))
    out.mkdir(parents=True, exist_ok=True)
    replace_file(out / "graph.json", to_json(table).encode())
    return table


def describe(model: Exportable, shapes: Shapes, name: str, variants: Mapping[str, str]) -> dict[str, Any]:
    """The content of graph.json (docs/develop/internals.md)."""
    return {
        "formatVersion": FORMAT_VERSION,
        "name": name,
        "family": model.family,
        "structure": structure_hash(shapes),
        "opset": OPSET,
        "config": dict(model.config),
        "inputs": [item.described() for item in model.inputs],
        "outputs": [model.output.described()],
        "variants": dict(variants),
        "residuals": [item.described() for item in model.residuals],
        "refitMap": model.refit_map,
    }


def to_json(table: Mapping[str, Any]) -> str:
    """JSON with one line per entry of a list, so that a change of the map reads as a change of lines."""
    lines = []
    for key, value in table.items():
        if isinstance(value, list) and value:
            body = ",\n".join(f"    {json.dumps(item)}" for item in value)
            lines.append(f'  "{key}": [\n{body}\n  ]')
        else:
            lines.append(f'  "{key}": {json.dumps(value)}')
    return "{\n" + ",\n".join(lines) + "\n}\n"
