"""One host of this process, with engines of several structures, in the order in which a user asks for them: a GPU's ways of stepping, with stand-ins for stream and compiler."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from types import SimpleNamespace

import torch
from engines import CPU
from refit_graphs.families import plan
from refit_graphs.table import describe, to_json
from refit_host.fused import operations
from refit_host.host.host import Host
from refit_host.host.options import parse_options
from refit_host.torch_engine import builder, maker, model, placing
from refit_host.torch_engine.maker import TorchMaker
from refit_host.wire.server import Call

from bench.gpu import data


def bundle_of(folder: Path, shapes) -> Path:
    """graph.json of a structure; the torch host reads no ONNX file."""
    folder.mkdir(parents=True, exist_ok=True)
    table = describe(plan(dict(shapes)), dict(shapes), folder.name, {"fp32": "none.onnx", "fp16": "none.onnx"})
    (folder / "graph.json").write_text(to_json(table), encoding="utf-8")
    return folder


class Code:
    def load(self) -> bool:
        return False

    def save(self) -> None: ...


class Day:
    """`compiling`: called while the compiler of an engine works. `fuses`: whether families have their fused blocks."""

    def __init__(self, folder: Path, monkeypatch, compiling=lambda: None, *, fuses: bool = True) -> None:
        self.folder, self._call = folder, 0
        monkeypatch.setattr(torch.cuda, "Stream", lambda *_: SimpleNamespace(synchronize=lambda: None))
        monkeypatch.setattr(torch.cuda, "stream", lambda _: contextlib.nullcontext())
        monkeypatch.setattr(builder, "compile_blocks", lambda *_: compiling())
        monkeypatch.setattr(model.CompiledCode, "of", lambda *_: Code())
        monkeypatch.setattr(builder, "REST", 0.0)
        monkeypatch.setattr(builder, "yield_processor", lambda: None)
        monkeypatch.setattr(placing, "_compiles", lambda _: True)
        monkeypatch.setattr(maker, "prefer_fastest", lambda *_: None, raising=False)
        if not fuses:
            monkeypatch.setattr(model, "fused_module", lambda *_: (None, None))
        self.host = Host(parse_options(["--device", "cpu"]), TorchMaker(CPU))
        self.operations = operations(CPU)
        self.notified: list[tuple[str, dict]] = []
        self.host.notify = lambda method, params: self.notified.append((method, params))

    def call(self, method: str, params: dict, tensors=()) -> tuple[dict, list]:
        self._call += 1
        call = Call(self._call, tensors, lambda *_: None)
        with torch.no_grad():
            return self.host.methods()[method].run(params, call)

    def load(self, name: str, shapes, dtype: str = "f32", seed: int = 0) -> dict:
        folder = self.folder / name.split("#")[0]
        folder.mkdir(exist_ok=True)
        graph = {"folder": str(bundle_of(folder / "graph", shapes)), "variant": "fp32"}
        record = data.checkpoint_record(folder, shapes, CPU, seed)
        return self.call("load", {"engine": name, "graph": graph, "weightDtype": dtype, "checkpoint": record, "stack": []})[0]

    def step(self, name: str, inputs, generation: int = 1):
        from refit_host.host.tensors import to_wire
        from refit_host.wire.frames import WireTensor  # noqa: F401

        return self.call("step", {"engine": name, "generation": generation}, [to_wire(key, value) for key, value in inputs.items()])

    def status(self, name: str) -> dict:
        return next(row for row in self.call("status", {})[0]["engines"] if row["engine"] == name)

    def settled(self, name: str) -> dict:
        """Its placement when nothing compiles any more."""
        for _ in range(2000):
            placement = self.status(name)["placement"]
            if not placement["compiling"]:
                return placement
            threading.Event().wait(0.01)
        raise AssertionError("it never stopped compiling")
