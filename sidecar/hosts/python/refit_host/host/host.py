"""The methods of the host protocol on the engines of this process (protocol/src/host/methods.ts)."""

from __future__ import annotations

import gc
import logging
import platform
import re
import threading
import time
import traceback
from dataclasses import replace
from typing import Any, Callable, Protocol, TypeVar

import psutil
import torch

from .. import __version__
from ..failure import HostFailure, expect
from ..files.checkpoint import CheckpointReader
from ..shared.medium import medium_of
from ..shared.memory import SharedMemory
from ..weights.image import ImageCache
from ..weights.memory import apply_cap
from ..weights.stream import Ring
from ..wire import protocol
from ..wire.messages import LoadParams, PrepareParams, Sources
from ..wire.server import Answer, Call, Method
from .engine import Engine
from .kept_inputs import KeptInputs
from .options import Options
from .step_memory import StepMemory
from .tensors import to_wire

log = logging.getLogger("refit_host")
Given = TypeVar("Given", LoadParams, PrepareParams)


class Maker(Protocol):
    """What a kind of host does differently: how an engine is built, and what it says about itself."""

    kind: str
    precisions: tuple[str, ...]

    def versions(self) -> dict[str, str]: ...

    def make(self, params: LoadParams, reader: CheckpointReader, host: "Host", call: Call) -> Engine: ...


class Host:
    def __init__(self, options: Options, maker: Maker) -> None:
        self.options = options
        self.device = device_of(options.device)
        self.ring = Ring(self.device)
        self._shared = SharedMemory(medium_of(str(self.device)) if options.share else None)
        self._memory_of_steps = StepMemory(self.device, self._shared)
        self._kept_inputs = KeptInputs(self.device)
        self.images = ImageCache(options.delta_cache_bytes)
        self.session_loads = 0
        # Engines whose want of room was just reported; the next load of each takes what there is.
        self.asked_for_room: set[str] = set()
        self._maker = maker
        self._engines: dict[str, Engine] = {}
        self._loading: set[str] = set()
        self._lock = threading.Lock()
        self._sources = Sources()
        self._ended = threading.Event()
        # Set by whoever serves this host: sends a notification, from any thread.
        self.notify: Callable[[str, dict[str, Any]], None] = lambda method, params: None
        apply_cap(self.device, options.vram_cap_bytes)
        if options.idle_seconds > 0 and self.device.type == "cuda":
            threading.Thread(target=self._watch_idle, name="refit-idle", daemon=True).start()

    def tell_serving(self, name: str) -> None:
        """How an engine serves has changed. Nothing is told of one whose load is not through: that ends by telling."""
        engine = self._engines.get(name)
        if engine is not None:
            self.notify("serving", {"engine": name, "placement": _placement(engine), **_quantised(engine)})

    def methods(self) -> dict[str, Method]:
        lanes: dict[str, tuple[str, Callable[[Any, Call], Answer]]] = {
            "hello": ("now", self._hello), "load": ("work", self._load), "prepare": ("work", self._prepare), "commit": ("live", self._commit),
            "discard": ("now", self._discard), "step": ("live", self._step), "readBack": ("live", self._read_back),
            "checksums": ("live", self._checksums), "unload": ("live", self._unload), "offload": ("live", self._offload),
            "status": ("now", self._status), "share": ("live", lambda params, call: (self._shared.share(params), [])),
            "unshare": ("live", lambda params, call: ({"bytes": self._shared.unshare(params["name"])}, [])),
            "shutdown": ("live", lambda params, call: ({}, [])),
        }  # fmt: skip
        return {name: Method(run, lane) for name, (lane, run) in lanes.items()}

    def _find(self, name: str) -> Engine:
        engine = self._engines.get(name)
        if engine is None:
            raise HostFailure(
                "HOST_ENGINE_UNKNOWN", f"expected the name of a loaded engine, got {name[:80]}; load it", {"engine": name[:200]}
            )
        return engine

    def _hello(self, params: protocol.HelloParams, call: Call) -> Answer:
        offered = params["protocolVersion"]
        expect(
            offered == protocol.PROTOCOL_VERSION,
            "HOST_PROTOCOL_MISMATCH",
            f"expected protocol version {protocol.PROTOCOL_VERSION}, got {offered}; update the older side",
            expected=protocol.PROTOCOL_VERSION,
            got=offered,
        )
        versions = {"host": __version__, "python": platform.python_version(), "torch": torch.__version__, **self._maker.versions()}
        return {
            "protocolVersion": protocol.PROTOCOL_VERSION, "kind": self._maker.kind, "versions": versions, "device": self._device_facts(),
            "precisions": list(self._maker.precisions), "memory": self._memory(),
            "segments": self._memory_of_steps.use(params.get("segments")), "keepsInputs": True,
            **self._shared.offer(),
        }, []  # fmt: skip

    def _device_facts(self) -> dict[str, str]:
        if self.device.type != "cuda":
            return {"type": self.device.type, "name": platform.processor() or platform.machine()}
        properties = torch.cuda.get_device_properties(self.device)
        return {"type": "cuda", "name": properties.name, "capability": f"{properties.major}.{properties.minor}"}

    def _memory(self) -> dict[str, int]:
        if self.device.type == "cuda":
            free, total = torch.cuda.mem_get_info(self.device)
            return {"totalBytes": total, "freeBytes": free}
        memory = psutil.virtual_memory()
        return {"totalBytes": memory.total, "freeBytes": memory.available}

    def _load(self, params: protocol.LoadParams, call: Call) -> Answer:
        given = self._with_limit(LoadParams.parse(params, self._sources))
        with self._lock:
            expect(
                given.engine not in self._engines and given.engine not in self._loading,
                "HOST_ENGINE_EXISTS",
                f"an engine {given.engine} is loaded already; unload it first",
                engine=given.engine,
            )
            self._loading.add(given.engine)
        began = time.perf_counter()
        engine = None
        try:
            engine = self._maker.make(given, CheckpointReader(given.checkpoint), self, call)
            prepared = engine.weights.prepare(engine.images(given.stack), full=False, verify=False, loss=given.adapter_loss)
            sha256 = {}
            if given.verify:
                sha256 = engine.weights.prepare(
                    engine.images(given.stack), full=True, verify=True, cancelled=call.cancelled, loss=given.adapter_loss
                ).sha256
            engine.weights.commit(prepared)
            call.check()
            self._engines[given.engine] = engine
        except BaseException as error:
            if engine is not None and engine.model is not None:
                engine.model.release()
            engine = prepared = None
            forget_frames(error)
            self._give_back()
            raise
        finally:
            self._loading.discard(given.engine)
        self.tell_serving(given.engine)
        weights = engine.weights
        result = {
            "ms": (time.perf_counter() - began) * 1000, "parameters": len(weights.layout.slots), "bytes": weights.weight_bytes,
            "sessionLoads": self.session_loads, "generation": engine.generation,
            "losses": engine.weights.losses,
        }  # fmt: skip
        return {**result, **_quantised(engine), **({"sha256": sha256} if given.verify else {})}, []

    def _with_limit(self, given: Given) -> Given:
        """A call that names no limit of loss has the host's own."""
        return given if given.adapter_loss is not None else replace(given, adapter_loss=self.options.adapter_loss)

    def _prepare(self, params: protocol.PrepareParams, call: Call) -> Answer:
        engine = self._find(params["engine"])
        given = self._with_limit(PrepareParams.parse(params, self._sources))
        began = time.perf_counter()
        with engine.present():
            result = engine.prepare(given, self.options.vram_cap_bytes, call.cancelled)
        return {**result, "ms": (time.perf_counter() - began) * 1000}, []

    def _commit(self, params: protocol.CommitParams, call: Call) -> Answer:
        engine = self._find(params["engine"])
        with engine.present():
            before = engine.weights.base
            ms, writes = engine.commit(params["token"])
            changed = engine.weights.base is not before
        del before
        if changed:
            # The base of the checkpoint before: gigabytes that another program may want. The next change takes them again in milliseconds.
            self._return_memory()
        return {"ms": ms, "writes": writes, "generation": engine.generation, "losses": engine.weights.losses}, []

    def _discard(self, params: protocol.DiscardParams, call: Call) -> Answer:
        self._find(params["engine"]).discard(params["token"])
        return {}, []

    def _step(self, params: protocol.StepParams, call: Call) -> Answer:
        engine = self._find(params["engine"])
        began = time.perf_counter()
        place = params.get("reply")
        self._shared.check_reply(place)
        inputs = self._memory_of_steps.inputs(call.tensors, params)
        inputs = self._kept_inputs.whole(inputs, params.get("keep", {}), params.get("use", {}))
        with engine.present():
            placed, others = self._shared.leave(engine.step(inputs, params["generation"]), place)
            outputs = [*placed, *(to_wire(name, value) for name, value in others.items())]
            if placed:
                # Whoever hears of it reads the output at once.
                self._shared.settle()
                self._shared.ring(place or {})
        return {"ms": (time.perf_counter() - began) * 1000}, outputs

    def _read_back(self, params: protocol.ReadBackParams, call: Call) -> Answer:
        with self._find(params["engine"]).present() as engine:
            return {}, [to_wire(name, engine.weights.read_back(name)) for name in params["parameters"]]

    def _checksums(self, params: protocol.ChecksumsParams, call: Call) -> Answer:
        names = params.get("parameters")
        with self._find(params["engine"]).present() as engine:
            weights = engine.weights
            wanted = [slot.name for slot in weights.layout.slots] if names is None else names
            return {"sha256": weights.checksums(wanted, call.check)}, []

    def _offload(self, params: protocol.OffloadParams, call: Call) -> Answer:
        freed = self._find(params["engine"]).offload()
        self._kept_inputs.clear()
        self._give_back()
        return {"bytes": freed}, []

    def _give_back(self) -> None:
        """Freed memory leaves PyTorch's own cache for other programs. What only cycles hold (modules and their hooks) is found first."""
        gc.collect()
        self._return_memory()

    def _return_memory(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _watch_idle(self) -> None:
        seconds = self.options.idle_seconds
        while not self._ended.wait(min(5.0, seconds / 4)):
            for name, engine in list(self._engines.items()):
                try:
                    if engine.offload(seconds):
                        log.info("weights of %s left the device after %.0f s without use", name, seconds)
                        self._give_back()
                except HostFailure as failure:
                    log.warning("idle weights of %s stay on the device: %s", name, failure.message)

    def _unload(self, params: protocol.UnloadParams, call: Call) -> Answer:
        engine = self._find(params["engine"])
        del self._engines[params["engine"]]
        held = engine.weights.layout.nbytes
        if engine.model is not None:
            engine.model.release()
        del engine
        if not self._engines:
            self._memory_of_steps.release()
            self._kept_inputs.clear()
        self._give_back()
        return {"bytes": held}, []

    def _status(self, params: protocol.StatusParams, call: Call) -> Answer:
        engines = [
            {"engine": name, "generation": engine.generation, "dirty": engine.dirty, "bytes": engine.weights.weight_bytes,
             "parameters": len(engine.weights.layout.slots), "prepared": engine.tokens, "away": engine.weights.away, "placement": _placement(engine),
             "losses": engine.weights.losses, **_quantised(engine)}
            for name, engine in list(self._engines.items())
        ]  # fmt: skip
        memory = {**self._memory(), "processBytes": psutil.Process().memory_info().rss, "sharedBytes": self._shared.nbytes}
        return {"engines": engines, "sessionLoads": self.session_loads, "memory": memory}, []


def forget_frames(error: BaseException | None) -> None:
    """The frames that an error keeps for its traceback hold an engine's memory; its text and its lines stay."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def device_of(name: str) -> torch.device:
    chosen = ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name
    return torch.device(chosen)


def _quantised(engine: Engine) -> dict[str, Any]:
    return {} if engine.quantised is None else {"quantised": engine.quantised}


def _placement(engine: Engine) -> dict[str, Any]:
    """Where the engine's weights are and how it steps, as `status` reports it."""
    weights = engine.weights
    assert weights.base is not None
    device = weights.device
    # PyTorch's memory at its highest, without what the driver takes for the process itself.
    peak = torch.cuda.max_memory_reserved(device) if device.type == "cuda" else 0
    return {"base": weights.base.place, "deviceBytes": weights.device_bytes, "streamedBytes": weights.streamed_bytes,
            "tier": "none" if engine.model is None else engine.model.tier, "compiling": engine.model is not None and engine.model.busy,
            "refused": [] if engine.model is None else engine.model.refused, "peakBytes": peak}  # fmt: skip


# PyTorch says in words how much it lacked.
_TRIED = re.compile(r"[Tt]ried to allocate ([\d.]+) (B|KiB|MiB|GiB)")
_UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
# Asked for when an allocation's size is unknown.
_SOME_ROOM = 1 << 30


def _lacking(error: BaseException) -> int:
    found = _TRIED.search(str(error))
    return int(float(found[1]) * _UNITS[found[2]]) if found else _SOME_ROOM


def translate(error: BaseException) -> HostFailure:
    """Any exception as a failure. Want of memory says what to reduce; the rest is ours."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        free = torch.cuda.mem_get_info()[0] if torch.cuda.is_available() else psutil.virtual_memory().available
        wanted = _lacking(error)
        return HostFailure(
            "HOST_OUT_OF_MEMORY", f"not enough device memory ({wanted / 2**30:.1f} GiB more wanted, {free / 2**30:.1f} GiB free): let the UI unload its models, or "
            "use a smaller picture, batch or precision", {"bytes": wanted, "freeBytes": free},
        )  # fmt: skip
    return HostFailure("HOST_INTERNAL", f"the host failed in a way that it did not expect ({type(error).__name__}); see its log", {})
