"""A sidecar small enough to read: it speaks the wire's methods on real folders, and its engine answers `sample * 0.1` plus what the stack adds.

Used in process by the plugin's tests. Behaviour that a test needs (slow steps, a lost lease, a dead host) is set through `faults`.
"""

from __future__ import annotations

import hashlib
import os
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from refit_sidecar_plugin.client import Reply, SidecarError, SidecarRefused, SidecarUnavailable, Tensor

Engine = Callable[[dict[str, Any], dict[str, Tensor]], Tensor]


@dataclass
class Faults:
    step_seconds: float = 0.0
    prepare_seconds: float = 0.0
    fail: dict[str, SidecarError] = field(default_factory=dict)
    die_after_steps: int | None = None


class FakeSidecar:
    """`engine(state, tensors)` computes a step; `state` has checkpoint path and stack of (path or pushed tensors, strength)."""

    def __init__(self, engine: Engine | None = None) -> None:
        self.engine = engine or scaled
        self.faults = Faults()
        #: Inputs of the engine beside those of a UNet without class conditioning.
        self.more_inputs: list[str] = []
        self.calls: list[tuple[str, dict[str, Any], dict[str, Tensor]]] = []
        self.folders: dict[str, tuple[str, str]] = {}
        self.pushed: dict[str, dict[str, Tensor]] = {}
        self.leases: dict[str, dict[str, Any]] = {}
        self.kept: dict[str, Tensor] = {}
        self.generation = 0
        self.steps = 0
        self._unfinished: dict[str, dict[str, Tensor]] = {}

    def named(self, method: str) -> list[dict[str, Any]]:
        return [params for name, params, _ in self.calls if name == method]

    def handle(self, method: str, params: dict[str, Any], tensors: dict[str, Tensor], cancelled: threading.Event) -> Reply:
        self.calls.append((method, params, tensors))
        if method in self.faults.fail:
            raise self.faults.fail[method]
        result = getattr(self, "do_" + method.replace(".", "_"))(params, tensors, cancelled)
        return result if isinstance(result, Reply) else Reply(result, {})

    # Folders and catalog: files are looked up when asked for, so that no watching is needed.

    def do_folders_add(self, params, *_):
        if not os.path.isdir(params["path"]):
            raise SidecarRefused("CATALOG_FOLDER_REFUSED", "no such folder")
        ident = "folder-" + hashlib.sha256(params["path"].encode()).hexdigest()[:8]
        self.folders[ident] = (params["path"], params["kind"])
        return {"folder": {"id": ident, "kind": params["kind"], "label": os.path.basename(params["path"]), "entries": 0, "problem": None}}

    def files(self) -> list[tuple[str, str, str]]:
        out = []
        for ident, (root, _) in self.folders.items():
            for base, _, names in os.walk(root):
                out += [
                    (ident, os.path.relpath(os.path.join(base, name), root).replace(os.sep, "/"), os.path.join(base, name))
                    for name in names
                    if name.endswith(".safetensors")
                ]
        return out

    def _entry(self, folder: str | None, name: str, path: str | None, sha256: str) -> dict[str, Any]:
        kind = "adapter" if folder is None or self.folders[folder][1] == "adapters" else "checkpoint"
        size = os.path.getsize(path) if path else 0
        return {
            "id": f"{kind}:{name}", "kind": kind, "name": name, "folder": folder, "sizeBytes": size, "sha256": sha256, "proof": "full", "family": "sd15",
            "variant": None, "structure": None, "kinds": ["lora"], "delta": "ready", "problem": None,
        }  # fmt: skip

    def do_catalog_get(self, params, *_):
        for folder, name, path in self.files():
            wanted_sha = params.get("sha256")
            if params.get("folder") == folder and params.get("name") == name or wanted_sha and sha256_of(path) == wanted_sha:
                return {"generation": self.generation, "entry": self._entry(folder, name, path, sha256_of(path))}
        if params.get("sha256") in self.pushed:
            return {"generation": self.generation, "entry": self._entry(None, "pushed", None, params["sha256"])}
        raise SidecarRefused("CATALOG_ENTRY_UNKNOWN", "no such entry")

    def do_catalog_list(self, params, *_):
        entries = [self._entry(folder, name, path, sha256_of(path)) for folder, name, path in self.files()]
        return {
            "generation": self.generation,
            "entries": [entry for entry in entries if params.get("kind", entry["kind"]) == entry["kind"]],
            "next": None,
        }

    def do_segments_open(self, *_):
        return {"segment": None, "reason": "the fake sidecar shares no memory"}

    def do_adapter_find(self, params, *_):
        from refit_sidecar_plugin.files import read_header, read_tensor

        wanted = {tensor["sha256"] for tensor in params["tensors"]}
        for folder, name, path in self.files():
            if self.folders[folder][1] == "adapters":
                have = {hashlib.sha256(read_tensor(path, entry)).hexdigest() for entry in read_header(path).entries.values()}
                if wanted <= have:
                    return {"adapter": {"id": f"adapter:{name}", "sha256": sha256_of(path), "name": name}}
        return {"adapter": None}

    def do_adapter_push(self, params, tensors, *_):
        held = self._unfinished.setdefault(params["push"], {})
        held.update({name: Tensor(name, tensor.dtype, tensor.shape, bytes(tensor.data)) for name, tensor in tensors.items()})
        if not params["last"]:
            return {"adapter": None}
        del self._unfinished[params["push"]]
        sha256 = hashlib.sha256(
            repr(
                sorted((name, tensor.dtype, tensor.shape, hashlib.sha256(tensor.data).hexdigest()) for name, tensor in held.items())
            ).encode()
        ).hexdigest()
        known = sha256 in self.pushed
        self.pushed[sha256] = held
        return {
            "adapter": {
                "id": f"pushed:{sha256}",
                "sha256": sha256,
                "sizeBytes": sum(len(tensor.data) for tensor in held.values()),
                "known": known,
            }
        }

    # Engines

    def _adapter(self, reference: str) -> str | dict[str, Tensor]:
        if reference in self.pushed:
            return self.pushed[reference]
        for folder, name, path in self.files():
            if self.folders[folder][1] == "adapters" and reference in (f"adapter:{name}", sha256_of(path)):
                return path
        raise SidecarRefused("CATALOG_ENTRY_UNKNOWN", "no such adapter")

    def do_engine_prepare(self, params, _, cancelled):
        wait(self.faults.prepare_seconds, cancelled)
        checkpoint = next((path for _, name, path in self.files() if f"checkpoint:{name}" == params["checkpoint"]), None)
        if checkpoint is None:
            raise SidecarRefused("CATALOG_ENTRY_UNKNOWN", "no such checkpoint")
        stack = [(self._adapter(item["adapter"]), item["strength"]) for item in params["stack"]]
        lease = uuid.uuid4().hex
        self.leases[lease] = {"checkpoint": checkpoint, "stack": stack, "params": params}
        names = ["sample", "timestep", "encoder_hidden_states", *self.more_inputs]
        if params["residuals"]:
            names += [f"down_residual_{index}" for index in range(4)] + ["mid_residual"]
        return {
            "lease": lease, "leaseIdleMs": 30_000, "engine": "engine-1", "host": "fake", "precision": "fp32",
            "inputs": [{"name": name, "dtype": "f32", "shape": ["batch", 4, "height", "width"] if name == "sample" else ["batch"]} for name in names],
            "outputs": [{"name": "out_sample", "dtype": "f32", "shape": ["batch"]}],
            "ms": {"total": 1.0, "delta": 0.0, "load": 0.0, "refit": 0.5}, "refit": {"writes": len(stack), "bytes": 0, "full": False}, "adapters": [],
        }  # fmt: skip

    def do_engine_step(self, params, tensors, cancelled):
        if params["lease"] not in self.leases:
            raise SidecarRefused("WIRE_LEASE_UNKNOWN", "the lease has ended")
        if self.faults.die_after_steps is not None and self.steps >= self.faults.die_after_steps:
            raise SidecarRefused("ENGINE_FAILED", "the engine host ended")
        self.steps += 1
        wait(self.faults.step_seconds, cancelled)
        inputs = dict(tensors)
        for name, key in params.get("use", {}).items():
            if key not in self.kept:
                raise SidecarRefused("WIRE_CONDITIONING_UNKNOWN", "unknown key")
            inputs[name] = self.kept[key]
        out = self.engine(self.leases[params["lease"]], inputs)
        return Reply({"ms": {"queue": 0.0, "run": 0.1}}, {out.name: out})

    def do_conditioning_put(self, _, tensors, *__):
        self.kept.update({name: Tensor(name, tensor.dtype, tensor.shape, bytes(tensor.data)) for name, tensor in tensors.items()})
        return {"bytes": 0}

    def do_conditioning_drop(self, params, *_):
        for key in params["keys"]:
            self.kept.pop(key, None)
        return {"bytes": 0}

    def do_engine_release(self, params, *_):
        self.leases.pop(params["lease"], None)
        return {}

    def do_engine_free(self, *_):
        return {"freed": ["engine-1"], "queued": [], "bytes": 0}

    def do_engine_list(self, *_):
        engine = {
            "id": "engine-1", "structure": "0" * 64, "family": "sd15", "precision": "fp32", "host": "fake", "device": "cpu", "state": "LIVE", "reason": None,
            "weights": None, "memoryBytes": 123 << 20, "leases": len(self.leases), "steps": self.steps,
            "lastRefit": {"at": "2026-01-01T00:00:00Z", "ms": 4.2, "writes": 7},
        }  # fmt: skip
        return {"engines": [engine]}

    def do_engine_warm(self, *_):
        return {"job": "job-1"}

    def do_jobs_list(self, *_):
        return {
            "queued": 0,
            "jobs": [
                {
                    "id": "job-1",
                    "kind": "warm",
                    "title": "warming",
                    "state": "done",
                    "stage": "build",
                    "done": 1,
                    "total": 1,
                    "remainingMs": None,
                    "problem": None,
                }
            ],
        }

    def do_events_subscribe(self, *_):
        return {}

    def do_events_history(self, *_):
        return {"events": []}

    def do_folders_list(self, *_):
        return {"folders": []}

    def do_memory_freed(self, *_):
        return {}


def scaled(state: dict[str, Any], tensors: dict[str, Tensor]) -> Tensor:
    import torch

    sample = torch.frombuffer(bytearray(tensors["sample"].data), dtype=torch.float32).reshape(tensors["sample"].shape)
    out = (sample * 0.1).contiguous()
    return Tensor("out_sample", "f32", tuple(out.shape), memoryview(out.reshape(-1).view(torch.uint8).numpy()))


def wait(seconds: float, cancelled: threading.Event) -> None:
    if cancelled.wait(seconds) if seconds else False:
        raise SidecarRefused("WIRE_CANCELLED", "cancelled")


_hashes: dict[tuple, str] = {}


def sha256_of(path: str) -> str:
    status = os.stat(path)
    key = (path, status.st_size, status.st_mtime_ns, status.st_ino)
    if key not in _hashes:
        with open(path, "rb") as file:
            _hashes[key] = hashlib.file_digest(file, "sha256").hexdigest()
    return _hashes[key]


class FakeSession:
    alive = True


class FakeClient:
    """In the place of SidecarClient: every call runs on a thread of its own, so that it can be interrupted. `kill` ends the sidecar."""

    def __init__(self, sidecar: FakeSidecar) -> None:
        self.sidecar, self._session = sidecar, FakeSession()
        self.listener: Callable[[dict[str, Any]], None] | None = None
        self.running = True

    def kill(self) -> None:
        self.running = False
        self._session.alive = False

    def restart(self) -> None:
        self.running, self._session = True, FakeSession()
        self.sidecar.leases.clear()
        self.sidecar.kept.clear()

    def session(self):
        if not self.running:
            raise SidecarUnavailable("CLIENT_NOT_RUNNING")
        return self._session

    def subscribe(self, topics, listener):
        self.listener = listener

    def close(self):
        self._session.alive = False

    def start(self, method, params, tensors=(), notified=None, reply_bytes=None):
        session = self.session()
        return FakePending(self.sidecar, method, dict(params), {tensor.name: tensor for tensor in tensors}, session)

    def call(self, method, params=None, tensors=(), check=None, timeout_s=None, progress=None, make_room=None):
        pending = self.start(method, params or {}, tensors)
        while not pending.wait(0.03):
            try:
                if check is not None:
                    check()
            except BaseException:
                pending.cancel()
                raise
        return pending.reply()


class FakePending:
    def __init__(self, sidecar, method, params, tensors, session):
        self._done, self._cancelled, self._answer = threading.Event(), threading.Event(), None
        self._session = session

        def run():
            try:
                self._answer = sidecar.handle(method, params, tensors, self._cancelled)
            except Exception as error:  # noqa: BLE001 - handed to the caller
                self._answer = error
            self._done.set()

        threading.Thread(target=run, daemon=True).start()

    def wait(self, timeout_s):
        if self._done.wait(min(timeout_s, 0.02)):
            return True
        if not self._session.alive:
            self._answer = SidecarUnavailable("CLIENT_CONNECTION_LOST")
            self._done.set()
        return self._done.is_set()

    def reply(self):
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer

    def cancel(self):
        self._cancelled.set()
