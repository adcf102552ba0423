"""A graph bundle: `graph.json` and the ONNX files of one structure. In: canonical shapes and a name. Out: a folder, written whole or not at all.

The folder is made beside its place and renamed into it, so a reader never sees half a bundle.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto

from . import slim, weightless
from .errors import OutputRefused
from .exportable import Exportable
from .families import plan
from .header import Shapes
from .table import describe, model_files, to_json

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
        for residuals in (False, True):
            if residuals and not model.residuals:
                continue
            say(f"tracing {model.family}{' with ControlNet residuals' if residuals else ''}")
            traced = _trace(model, residuals)
            for name_of, file in model_files(model).items():
                if name_of.startswith("residuals-") != residuals:
                    continue
                _save(slim.variant(traced, FLOAT_TYPES[name_of.removeprefix("residuals-")]), work / file)
                variants[name_of] = file
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
    if names is None or (
        names and ("graph.json" not in names or any(name != "graph.json" and not name.endswith(".onnx") for name in names))
    ):
        raise OutputRefused(
            f"expected a folder to make, or an older bundle to replace; {out.name} is something else and would be lost. Choose another --out."
        )


def _trace(model: Exportable, residuals: bool) -> onnx.ModelProto:
    inputs = [*model.inputs, *(model.residuals if residuals else ())]
    return weightless.trace(model.build(), model.weights, inputs, model.trace_sizes, model.run, model.output)


def _save(model: onnx.ModelProto, path: Path) -> None:
    path.write_bytes(model.SerializeToString(deterministic=True))
