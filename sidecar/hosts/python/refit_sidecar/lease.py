"""An engine of a running sidecar under a lease. In: a checkpoint's values, a stack, tensors of steps. Out: the engine's answers. Never: an answer of other weights: the whole
stack is named again whenever the connection, the lease or the sidecar is another one.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
import uuid
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Callable, Mapping, Sequence

import torch
from refit_host.files.dtypes import TORCH_OF_WIRE
from refit_host.host.tensors import to_wire
from safetensors.torch import save_file
from torch import Tensor

from .options import Options
from .snapshot import NotServed

try:
    import fcntl
except ImportError:
    fcntl = None

# One call of a push; the sidecar takes up to 256 MiB.
PUSH_BYTES = 64 << 20
CATALOG_WAIT_S = 120
MARK = "in-use"
FORGOTTEN = ("WIRE_LEASE_UNKNOWN", "CATALOG_ENTRY_UNKNOWN", "CATALOG_FOLDER_UNKNOWN", "ENGINE_UNKNOWN")


def _client_package() -> Any:
    """The plugin's client: it lies in the wheel, and in a checkout."""
    here = Path(__file__).resolve()
    for place in (here.parent / "package" / "plugin", here.parents[4] / "plugin"):
        if (place / "refit_sidecar_plugin").is_dir() and str(place) not in sys.path:
            sys.path.append(str(place))
    import refit_sidecar_plugin.client as client

    return client


@dataclass(frozen=True)
class Part:
    """An adapter as it travels. `key` is equal for equal content; `tensors` makes it."""

    key: tuple[Any, ...]
    strength: float
    tensors: Callable[[], dict[str, Tensor]]


class Lease:
    """One lease at the sidecar: what it was asked for, and how to ask again when it has forgotten."""

    def __init__(self, options: Options, precision: str) -> None:
        try:
            self._package = _client_package()
        except ImportError as error:
            raise NotServed(f"the sidecar's client cannot be imported ({error}); pip install websockets") from error
        self._client = self._package.SidecarClient("RefitModule", "1", data_dir=options.sidecar_data_dir)
        self._precision = precision
        base = Path.home() / ".cache" / "refit-sidecar" / "modules"
        base.mkdir(parents=True, exist_ok=True)
        _sweep(base)
        self.folder = Path(tempfile.mkdtemp(prefix="module-", dir=base))
        self._end = weakref.finalize(self, _end, self._client, self.folder, _held(self.folder))
        self._file: Path | None = None
        self._stack: list[Part] = []
        self._session: Any = None
        self._forget()
        self.host = ""
        self.inputs: dict[str, dict[str, Any]] = {}

    def _forget(self) -> None:
        """Another connection may be to another sidecar."""
        self._lease: str | None = None
        self._checkpoint: str | None = None
        self._pushed: dict[tuple[Any, ...], str] = {}

    def reachable(self) -> None:
        """Raises NotServed when no sidecar runs: before gigabytes are written for it."""
        try:
            self._client.session()
        except self._package.SidecarError as error:
            raise NotServed(f"no sidecar can be reached ({error.code}); start one with `refit-sidecar serve`") from error

    def checkpoint(self, tensors: Mapping[str, Tensor]) -> Path:
        """Writes the module's own values as a checkpoint."""
        path = self.folder / f"{uuid.uuid4().hex}.safetensors"
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)
        before, self._file, self._checkpoint, self._lease = self._file, path, None, None
        if before is not None:
            before.unlink(missing_ok=True)
        return path

    def want(self, stack: Sequence[Part]) -> None:
        """Brings the engine to this stack. Raises NotServed."""
        self._stack, self._lease = list(stack), None
        self._asked(self._prepared)

    def step(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """One step. Raises NotServed."""

        def once() -> Tensor:
            self._prepared()
            missing = [name for name, port in self.inputs.items() if name not in tensors and not port.get("optional")]
            unknown = [name for name in tensors if name not in self.inputs]
            if missing or unknown:
                raise NotServed(f"the engine {'needs' if missing else 'takes no'} {(missing or unknown)[0]}")
            sent = [self._wired(name, value.to(TORCH_OF_WIRE[self.inputs[name]["dtype"]])) for name, value in tensors.items()]
            reply = self._client.call("engine.step", {"lease": self._lease}, sent)
            (out,) = reply.tensors.values()
            return torch.frombuffer(bytearray(out.data), dtype=TORCH_OF_WIRE[out.dtype]).reshape(out.shape)

        return self._asked(once)

    def _asked(self, work: Callable[[], Any]) -> Any:
        for last in (False, True):
            try:
                session = self._client.session()
                if session is not self._session:
                    self._forget()
                    self._session = session
                return work()
            except self._package.SidecarError as error:
                self._lease = None
                if error.code in FORGOTTEN and not last:
                    self._forget()
                    continue
                raise NotServed(f"the sidecar does not serve it ({error.code}: {str(error)[:200]})") from error

    def _prepared(self) -> None:
        if self._lease is not None:
            return
        assert self._file is not None
        if self._checkpoint is None:
            self._checkpoint = self._catalogued(self._file.name)
        stack = [{"adapter": self._push(part), "strength": part.strength} for part in self._stack]
        wanted = {
            "checkpoint": self._checkpoint,
            "stack": stack,
            "precision": self._precision,
            "host": "auto",
            "mode": "extended",
            "residuals": False,
        }
        found = self._client.call("engine.prepare", wanted).result
        lost = [row for each in found["adapters"] for row in (*each["ignoredKeys"], *each["failedKeys"])]
        if lost:
            raise NotServed(f"the sidecar cannot apply {lost[0]['key']} ({lost[0]['reason']})")
        self._lease, self.host = found["lease"], f"{found['host']}, {found['precision']}"
        self.inputs = {port["name"]: port for port in found["inputs"]}

    def _catalogued(self, name: str) -> str:
        folder = self._client.call("folders.add", {"path": str(self.folder), "kind": "checkpoints"}).result["folder"]["id"]
        deadline = time.monotonic() + CATALOG_WAIT_S
        while True:
            try:
                entry = self._client.call("catalog.get", {"folder": folder, "name": name}).result["entry"]
            except self._package.SidecarError as error:
                if error.code != "CATALOG_ENTRY_UNKNOWN" or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
                continue
            if entry.get("problem"):
                raise NotServed(f"the sidecar knows no such model ({entry['problem']['message'][:200]})")
            return entry["id"]

    def _push(self, part: Part) -> str:
        known = self._pushed.get(part.key)
        if known is not None:
            return known
        frames: list[list[Any]] = [[]]
        size = 0
        for name, value in part.tensors().items():
            if frames[-1] and size + value.nbytes > PUSH_BYTES:
                frames.append([])
                size = 0
            frames[-1].append(self._wired(name, value))
            size += value.nbytes
        push, found = uuid.uuid4().hex, ""
        for number, frame in enumerate(frames, 1):
            given = {"push": push, "name": "from a RefitModule", "last": number == len(frames)}
            adapter = self._client.call("adapter.push", given, frame).result["adapter"]
            found = adapter["id"] if adapter else found
        self._pushed[part.key] = found
        while len(self._pushed) > 256:
            self._pushed.pop(next(iter(self._pushed)))
        return found

    def _wired(self, name: str, value: Tensor) -> Any:
        sent = to_wire(name, value)
        return self._package.Tensor(sent.name, sent.dtype, sent.shape, sent.data)

    def close(self) -> None:
        """Gives lease, folder and file back."""
        self._end()


def _end(client: Any, folder: Path, mark: IO[bytes] | None) -> None:
    client.close()
    if mark is not None:
        mark.close()
    shutil.rmtree(folder, ignore_errors=True)


def _held(folder: Path) -> IO[bytes] | None:
    """A file that is locked for as long as this process lives. Windows has no such lock; None there."""
    if fcntl is None:
        return None
    mark = (folder / MARK).open("wb")
    fcntl.flock(mark, fcntl.LOCK_EX)
    return mark


def _sweep(base: Path) -> None:
    """Removes the folders of processes that were killed: nobody else would, and a checkpoint has gigabytes."""
    if fcntl is None:
        return
    for mark in base.glob(f"module-*/{MARK}"):
        try:
            with mark.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(mark.parent, ignore_errors=True)
        except OSError:
            continue
