"""The tensorrt host in this process, on the simulated library and device. In: a graph bundle and a checkpoint. Out: calls as the sidecar makes them."""

from __future__ import annotations

import importlib
import json
import sys
import zlib
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator, Mapping

import torch
from refit_host.files import delta_checks
from refit_host.files.safetensors_header import read_header
from refit_host.host.host import Host
from refit_host.host.options import parse_options
from refit_host.wire.frames import WireTensor
from refit_host.wire.server import Call
from refit_tensorrt.maker import TensorRTMaker
from safetensors.torch import save_file

ROOT = Path(__file__).resolve().parents[3]
DEMO = ROOT / "sidecar/graphs/demo"
DEMO_CHECKPOINT = ROOT / "sidecar/demo/demo-unet.safetensors"
PREFIX = "model.diffusion_model."


@contextmanager
def simulation(**settings: Any) -> Iterator[Any]:
    """The simulated device; `settings`: its CAPABILITY, VERSION, TOTAL_BYTES, FAULTS."""
    sys.path.insert(0, str(ROOT / "test/python/simulation"))
    device = importlib.import_module("device")
    gpu = importlib.import_module("refit_tensorrt.device")
    library = importlib.import_module("tensorrt_rtx")
    profiles = importlib.import_module("refit_tensorrt.profiles")
    sides = {name: getattr(profiles, name) for name in ("USUAL_SIDE", "OTHER_SIDE")}
    facts = {name: getattr(gpu, name) for name in ("capability", "name", "total_bytes")}
    before = {name: getattr(device, name) for name in settings}
    empty = torch.empty
    device.install()
    for name, value in settings.items():
        setattr(device, name, value)
    library.__version__ = device.VERSION
    try:
        yield device
    finally:
        torch.empty = empty
        for module, values in ((gpu, facts), (profiles, sides), (device, before)):
            for name, value in values.items():
                setattr(module, name, value)
        library.__version__ = device.VERSION
        sys.path.remove(str(ROOT / "test/python/simulation"))


def _piece(key: str, dtype: str, shape: tuple[int, ...]) -> dict[str, Any]:
    return {"file": 0, "key": key, "dtype": dtype, "start": 0, "length": shape[0] if shape else 1, "swapHalves": False}


def source(path: Path) -> dict[str, Any]:
    """CheckpointSource of a file whose keys carry the usual prefix."""
    stat = path.stat()
    rows = read_header(path).entries
    return {
        "files": [{"path": str(path), "sizeBytes": stat.st_size, "mtimeNs": str(stat.st_mtime_ns), "inode": str(stat.st_ino)}],
        "parameters": {
            key.removeprefix(PREFIX): {"shape": list(row.shape), "pieces": [_piece(key, row.dtype, row.shape)]} for key, row in rows.items()
        },
    }


def checkpoint(path: Path, shapes: Mapping[str, tuple[int, ...]], seed: int = 0) -> dict[str, Any]:
    make = torch.Generator().manual_seed(seed)
    save_file({PREFIX + name: torch.randn(shape, generator=make) * 0.05 for name, shape in shapes.items()}, path)
    return source(path)


class Bench:
    """One host. Answers are (result, tensors by name); failures come as HostFailure."""

    def __init__(self, store: Path | None, *args: str) -> None:
        options = parse_options(["--kind", "tensorrt", "--device", "cpu", *(["--store", str(store)] if store else []), *args])
        self.host = Host(options, TensorRTMaker(options))
        self.notes: list[tuple[str, dict[str, Any]]] = []
        self._methods = self.host.methods()

    def call(self, method: str, tensors: list[WireTensor] | None = None, **params: Any) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        call = Call(1, tensors or [], lambda name, value: self.notes.append((name, value)))
        result, out = self._methods[method].run(params, call)
        return result, {t.name: torch.frombuffer(bytearray(t.data), dtype=torch.float32).view(t.shape) for t in out}

    def load(
        self, engine: str = "e", graph: Path = DEMO, given: dict[str, Any] | None = None, stack: list[dict[str, Any]] | None = None
    ) -> dict[str, Any]:
        return self.call("load", engine=engine, graph={"folder": str(graph), "variant": "fp32"}, weightDtype="f32", checkpoint=given or source(DEMO_CHECKPOINT),
                         stack=stack or [])[0]  # fmt: skip

    def refit(
        self,
        before: list[dict[str, Any]],
        after: list[dict[str, Any]],
        writes: list[str],
        generation: int,
        engine: str = "e",
        full: bool = False,
    ) -> int:
        """Prepare and commit; the new generation."""
        plan = plan_for(after, writes, full=full, before=before)
        token = self.call("prepare", engine=engine, generation=generation, plan=plan, checkpoint=source(DEMO_CHECKPOINT), stack=after)[0][
            "token"
        ]
        return self.call("commit", engine=engine, token=token)[0]["generation"]

    def step(self, inputs: Mapping[str, torch.Tensor], engine: str = "e", generation: int = 1) -> torch.Tensor:
        wire = [
            WireTensor(name, "f32", tuple(value.shape), memoryview(bytearray(value.contiguous().numpy().tobytes())))
            for name, value in inputs.items()
        ]
        return next(iter(self.call("step", wire, engine=engine, generation=generation)[1].values()))

    @property
    def built(self) -> int:
        return sum(note.get("stage") == "build" for _, note in self.notes)


def demo_inputs(side: int = 8, batch: int = 2, seed: int = 1) -> dict[str, torch.Tensor]:
    make = torch.Generator().manual_seed(seed)
    return {"sample": torch.randn(batch, 4, side, side, generator=make), "timestep": torch.full((batch,), 500.0),
            "encoder_hidden_states": torch.randn(batch, 4, 768, generator=make)}  # fmt: skip


def lora(folder: Path, shapes: Mapping[str, tuple[int, ...]], seed: int = 3, rank: int = 2) -> dict[str, Any]:
    """A stack item: a delta file with a low-rank product on each of these parameters."""
    make = torch.Generator().manual_seed(seed)
    tensors, terms = {}, []
    for name, shape in shapes.items():
        tensors[f"{name}.up"] = torch.randn(shape[0], rank, generator=make) * 0.1
        tensors[f"{name}.down"] = torch.randn(rank, torch.Size(shape[1:]).numel(), generator=make) * 0.1
        terms.append(
            {"kind": "lowRank", "target": {"parameter": name}, "scale": 0.5, "up": f"{name}.up", "down": f"{name}.down", "sourceKeys": []}
        )
    record = {"formatVersion": 1, "adapter": f"{seed:064x}", "structure": "0" * 64, "family": "sd15", "mode": "comfyui", "terms": terms,
              "report": {"used": [], "ignored": [], "failed": []}, "bytes": 0}  # fmt: skip
    text = json.dumps(record)
    checks = {name: (zlib.crc32(value.numpy().tobytes()), True) for name, value in tensors.items()}
    tensors[delta_checks.NAME] = torch.frombuffer(bytearray(delta_checks.encode_checks(checks, text)), dtype=torch.uint8)
    path = folder / f"{seed}.delta"
    save_file(tensors, path, metadata={"refit_delta": text})
    return {"delta": str(path), "sha256": record["adapter"], "strength": 1.0}


def plan_for(
    stack: list[dict[str, Any]], writes: list[str], *, full: bool = False, before: list[dict[str, Any]] | None = None
) -> dict[str, Any]:
    """A refit plan as the sidecar sends it. `before`: the stack it starts from; None: unknown."""
    items = lambda rows: [{"sha256": row["sha256"], "strength": row["strength"]} for row in rows]  # noqa: E731
    return {"from": None if before is None else {"checkpoint": "c", "stack": items(before)}, "to": {"checkpoint": "c", "stack": items(stack)}, "full": full,
            "writes": [{"parameter": name, "reason": "touched"} for name in writes]}  # fmt: skip
