"""From a MODEL and a run to an engine that holds exactly its weights."""

from __future__ import annotations

import contextlib
import os
from typing import Any

import comfy.model_management

from ...client import SidecarError, SidecarRefused, SidecarUnavailable
from ...engine import EngineRun, StackEntry, Wanted
from ...service.catalog import pause
from ...stack import FileItem, NotExpressible, Patch, StackItem, TensorRef
from ..denoising import NotServed, require_gpu_engine
from .freshness import used
from .hints import adapter_names, adapters_before
from .memory import make_room
from .plugin import plugin
from .progress import current_node, node_progress
from .source import Source
from .stack_reader import Reading, adapter_path

JOB_ENDED = ("done", "failed", "cancelled")


def check() -> None:
    """Called while waiting: raises ComfyUI's own exception when the user interrupts."""
    comfy.model_management.throw_exception_if_processing_interrupted()


def open_run(source: Source, reading: Reading, residuals: bool) -> EngineRun:
    """A prepared run; `residuals`: on an engine with ControlNet inputs of its own. Raises NotServed or SidecarError with the reason, or ComfyUI's interrupt."""
    plugin().ensure(check)
    named = all(isinstance(item, FileItem) for item in reading.items)
    plugin().ahead.settle([(item.name, item.strength) for item in reading.items if isinstance(item, FileItem)] if named else None)
    if source.settings.host == "auto" and comfy.model_management.get_torch_device().type != "cpu":
        require_gpu_engine(plugin().client, check)
    for path, seen in reading.files.items():
        used(source.name, path, seen)
    try:
        return _prepared(source, reading, residuals)
    except SidecarUnavailable:
        # It ended a moment ago, and its successor is being started: nothing of this picture is on it yet.
        plugin().ensure(check)
    except SidecarError as error:
        if error.code != "CATALOG_ENTRY_UNKNOWN":
            raise
        # What was pushed before made room for newer pushes, or a file went away between the question and the answer: ask and send again.
        plugin().pusher.forget()
        plugin().catalog.forget()
    return _prepared(source, reading, residuals)


def _prepared(source: Source, reading: Reading, residuals: bool) -> EngineRun:
    try:
        stack = tuple(
            StackEntry(_reference(item), item.strength, targets) for item, targets in zip(reading.items, reading.targets, strict=True)
        )
    except NotExpressible as error:
        raise NotServed(str(error), "RUN_PATCH_UNKNOWN") from error
    settings = source.settings
    wanted = Wanted(checkpoint_id(source), stack, settings.host, settings.precision, residuals)
    run = EngineRun(plugin().client, wanted, check, make_room)
    with node_progress(f"Refit: {source.name}") as progress:
        run.prepare(progress)
    if run.lease is not None:
        plugin().ahead.ran(wanted, run.lease)
    run.report.other_family = _of_other_families(source, reading)
    return run


def _of_other_families(source: Source, reading: Reading) -> list[str]:
    """LoRAs before the sampler that were made for another model family: ComfyUI's loaders use what happens to fit, and pass over the rest with lines in the log only."""
    used_names = {item.name for item in reading.items if isinstance(item, FileItem)}
    out = []
    for name in adapters_before(current_node()):
        path = adapter_path(name)
        if path is None:
            continue
        with contextlib.suppress(SidecarError):
            own, other = (plugin().catalog.family(one, check) for one in (source.path, path))
            if own and other and own != other:
                fits = ", and only layers that happen to fit are used" if name in used_names else ""
                out.append(f"{name} was made for {other}; {source.name} is {own}{fits}")
    return out


def checkpoint_id(source: Source) -> str:
    plugin().ensure(check)
    return plugin().catalog.id_of(source.path, check)


def find_name(patch: Patch) -> str | None:
    """Name in the loras folders of an adapter that holds this patch's tensors, as the sidecar's catalog knows it."""
    tensors = [
        {"dtype": part.dtype, "shape": list(part.shape), "sha256": part.digest()} for _, part in patch.parts if isinstance(part, TensorRef)
    ]
    found = plugin().catalog.find(tensors, check) if tensors else None
    return found["name"].replace("/", os.sep) if found else None


def read_stack(patcher: Any) -> Reading:
    return plugin().stacks.read(patcher, adapter_names(), find_name)


def warm(wanted: Wanted, name: str) -> str:
    """Has the engine made in the background, and waits with progress on the node. Returns a line for the user."""
    client = plugin().client
    job = client.call("engine.warm", wanted.as_params(), check=check).result["job"]
    with node_progress(f"Refit: warming an engine for {name}") as progress:
        while True:
            jobs = client.call("jobs.list", {"ids": [job]}, check=check).result["jobs"]
            if not jobs:
                return f"The engine for {name} is ready."
            entry = jobs[0]
            progress({**entry, "text": entry["title"]})
            if entry["state"] in JOB_ENDED:
                break
            pause(0.25, check)
    if entry["state"] != "done":
        problem = entry["problem"] or {"code": "JOB_CANCELLED", "message": "the job was cancelled"}
        raise SidecarRefused(problem["code"], f"The engine for {name} could not be made: {problem['message']}")
    return f"The engine for {name} is ready."


def _reference(item: StackItem) -> str:
    """What a stack can name the item by. Raises NotExpressible for patches that no adapter file says and no known file explains."""
    catalog = plugin().catalog
    if not isinstance(item, FileItem):
        return plugin().pusher.push(item, check)
    if catalog.knows_content(item.sha256, check):
        return item.sha256
    path = adapter_path(item.name)
    # Files that nothing has been made of are not hashed before somebody names them.
    with contextlib.suppress(SidecarRefused):
        if path and catalog.listed(path, check) and catalog.entry_of(path, item.sha256, check):
            return item.sha256
    try:
        return plugin().pusher.push(item, check)
    except NotExpressible as error:
        if path is None:
            raise
        # Rows of a fused weight go by their file only, which may have arrived so lately that it is not listed yet.
        if catalog.entry_of(path, item.sha256, check) is None:
            raise NotExpressible(f"{error}, and {item.name} is another file now than the one that was loaded") from error
        return item.sha256
