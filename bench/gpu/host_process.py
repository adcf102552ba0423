"""The real engine host as a child process, spoken to as the sidecar does. One call at a time."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Mapping, Sequence

import torch
from refit_host.host.tensors import from_wire, to_wire
from refit_host.wire.frames import encode_frame, read_frame
from refit_host.wire.protocol import PROTOCOL_VERSION

from .segment import Segment


class HostError(RuntimeError):
    """A host's own refusal: its code, and what it says beside its text."""

    def __init__(self, method: str, error: Mapping[str, Any], log: Sequence[str]) -> None:
        self.code, self.evidence = error["data"]["code"], error["data"].get("evidence", {})
        super().__init__(f"{method}: {self.code}: {error['message']} | {' | '.join(log)}")


class HostProcess:
    """`log`: lines that the host wrote so far."""

    def __init__(self, arguments: Sequence[str], module: str = "refit_host") -> None:
        began = time.perf_counter()
        self._child = subprocess.Popen(
            [sys.executable, "-m", module, "--kind", "torch", *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
        self.log: list[str] = []
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()
        self._id = 0
        self._segment = Segment()
        self.hello = self.call("hello", {"protocolVersion": PROTOCOL_VERSION, "segments": str(self._segment.folder)})[0]
        self.hello_s = time.perf_counter() - began

    def _read_log(self) -> None:
        assert self._child.stderr is not None
        for line in self._child.stderr:
            self.log.append(line.decode(errors="replace").rstrip())

    def call(
        self, method: str, params: Mapping[str, Any], tensors: Mapping[str, torch.Tensor] | None = None, by_place: bool = False
    ) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        """Result and tensors. `by_place`: they lie in a segment. Raises HostError, or RuntimeError with the last log lines when the host died."""
        self._id += 1
        sent, placed = [to_wire(name, value) for name, value in (tensors or {}).items()], []
        if by_place:
            sent, placed = [], self._segment.put(sent)
        message = {
            "jsonrpc": "2.0",
            "id": self._id,
            "method": method,
            "params": {**params, **({"segments": [self._segment.name]} if placed else {})},
        }
        assert self._child.stdin is not None and self._child.stdout is not None
        try:
            for part in encode_frame(message, "params" if sent or placed else None, sent, placed):
                self._child.stdin.write(part)
            self._child.stdin.flush()
        except BrokenPipeError:
            raise self._died(method) from None
        while (frame := read_frame(self._child.stdout)) is not None:
            reply, received = frame
            if reply.get("id") != self._id:
                continue
            if "error" in reply:
                raise HostError(method, reply["error"], self.log[-6:])
            return reply["result"], {tensor.name: from_wire(tensor).clone() for tensor in received}
        raise self._died(method)

    def _died(self, method: str) -> RuntimeError:
        return RuntimeError(f"{method}: the host ended with {self._child.wait(10)}: {' | '.join(self.log[-8:])}")

    def close(self) -> None:
        """Ends the host; a host that does not end by itself is stopped."""
        if self._child.poll() is None:
            try:
                self.call("shutdown", {})
            except RuntimeError:
                pass
        try:
            self._child.wait(20)
        except subprocess.TimeoutExpired:
            self._child.kill()
        self._segment.close()


class HostEngine:
    """One engine of a host: its generation and the refits on it."""

    def __init__(self, host: HostProcess, graph: Path, checkpoint: dict, dtype: str, names: Sequence[str]) -> None:
        self.host, self.names = host, list(names)
        began = time.perf_counter()
        given = {"engine": "bench", "graph": {"folder": str(graph), "variant": "fp32" if dtype == "f32" else "fp16"}, "weightDtype": dtype,
                 "checkpoint": checkpoint, "stack": []}  # fmt: skip
        self.loaded = host.call("load", given)[0]
        self.load_s = round(time.perf_counter() - began, 2)
        self.generation = self.loaded["generation"]
        self.swaps = 0

    def swap(self, stack: Sequence[tuple[Path, str, float]], touched: Sequence[str], checkpoint: dict | None = None) -> dict[str, float]:
        """To a stack of (delta file, adapter, strength) and, with `checkpoint`, to that one. Milliseconds of both phases as the caller sees them, and in the host."""
        full = checkpoint is not None
        weights = {"checkpoint": "bench", "stack": [{"sha256": sha, "strength": strength} for _, sha, strength in stack]}
        plan = {
            "from": None if full else weights,
            "to": weights,
            "full": full,
            "writes": [{"parameter": name, "reason": "base" if full else "touched"} for name in (self.names if full else touched)],
        }
        began = time.perf_counter()
        prepared = self.host.call("prepare", {
            "engine": "bench", "generation": self.generation, "plan": plan, "checkpoint": checkpoint,
            "stack": [{"delta": str(path), "sha256": sha, "strength": strength} for path, sha, strength in stack],
        })[0]  # fmt: skip
        middle = time.perf_counter()
        committed = self.host.call("commit", {"engine": "bench", "token": prepared["token"]})[0]
        end = time.perf_counter()
        self.generation = committed["generation"]
        self.swaps += 1
        return {
            "ms": round((end - began) * 1000, 2),
            "prepare_ms": round((middle - began) * 1000, 2),
            "commit_ms": round((end - middle) * 1000, 2),
            "prepare_in_host_ms": round(prepared["ms"], 2),
            "commit_in_host_ms": round(committed["ms"], 2),
        }

    def step(self, inputs: Mapping[str, torch.Tensor], by_place: bool = False) -> tuple[torch.Tensor, float, float]:
        """(output, ms as the caller sees it, ms in the host). `by_place`: inputs are left in a segment, as the sidecar leaves a client's large ones."""
        began = time.perf_counter()
        result, outputs = self.host.call("step", {"engine": "bench", "generation": self.generation}, inputs, by_place)
        return next(iter(outputs.values())), (time.perf_counter() - began) * 1000, result["ms"]

    def status(self) -> dict[str, Any]:
        status = self.host.call("status", {})[0]
        return {**status["engines"][0], "memory": status["memory"]}

    def checksums(self, parameters: Sequence[str]) -> dict[str, str]:
        return self.host.call("checksums", {"engine": "bench", "parameters": list(parameters)})[0]["sha256"]

    def unload(self) -> None:
        self.host.call("unload", {"engine": "bench"})
