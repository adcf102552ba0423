"""A graph bundle: `graph.json` and the ONNX files of one structure. In: canonical shapes and a name. Out: a folder, written whole or not at all.

The folder is made beside its place and renamed into it, so a reader never sees half a bundle.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto

from . import slim, weightless
from .errors import OutputRefused
from .exportable import Exportable
from .families import plan
from .header import Shapes, structure_hash

FORMAT_VERSION = 1
FLOAT_TYPES = {"fp32": TensorProto.FLOAT, "fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}


def export_bundle(shapes: Shapes, name: str, out: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Exports every variant of the structure to the folder `out` and returns graph.json's content. Raises UnsupportedStructure."""
    _require_place(out)
    model = plan(shapes)
    out.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        os.chmod(work, 0o755)
        variants: dict[str, str] = {}
        for kind, residuals in (("", False), ("residuals-", True)):
            if residuals and not model.residuals:
                continue
            say(f"tracing {model.family}{' with ControlNet residuals' if residuals else ''}")
            traced = _trace(model, residuals)
            for precision in model.precisions:
                file = f"{model.file_stem}{'-residuals' if residuals else ''}.{precision}.onnx"
                _save(slim.variant(traced, FLOAT_TYPES[precision]), work / file)
                variants[kind + precision] = file
                say(f"wrote {file}")
        table = describe(model, shapes, name, variants)
        (work / "graph.json").write_text(to_json(table), encoding="utf-8", newline="\n")
        if out.exists():
            shutil.rmtree(out)
        os.replace(work, out)
        return table
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise


def _require_place(out: Path) -> None:
    """A folder that is replaced holds an older bundle or nothing: never somebody's models."""
    if not out.exists():
        return
    names = [entry.name for entry in out.iterdir()] if out.is_dir() else None
    if names is None or (names and ("graph.json" not in names or any(name != "graph.json" and not name.endswith(".onnx") for name in names))):
        raise OutputRefused(f"expected a folder to make, or an older bundle to replace; {out.name} is something else and would be lost. Choose another --out.")


def _trace(model: Exportable, residuals: bool) -> onnx.ModelProto:
    inputs = [*model.inputs, *(model.residuals if residuals else ())]
    return weightless.trace(model.build(), model.weights, inputs, model.trace_sizes, model.run, model.output)


def _save(model: onnx.ModelProto, path: Path) -> None:
    path.write_bytes(model.SerializeToString(deterministic=True))


def describe(model: Exportable, shapes: Shapes, name: str, variants: Mapping[str, str]) -> dict[str, Any]:
    """The content of graph.json (docs/internals.md)."""
    return {
        "formatVersion": FORMAT_VERSION,
        "name": name,
        "family": model.family,
        "structure": structure_hash(shapes),
        "opset": weightless.OPSET,
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
