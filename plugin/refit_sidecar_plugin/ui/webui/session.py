"""The engine of one sampling: opened for a desired state, asked call by call, closed. One per picture; not shared between threads."""

from __future__ import annotations

import os
from collections.abc import Callable

import torch

from ...client import SidecarError
from ...engine import EngineRun, StackEntry, Wanted
from ..denoising import Answerer, Call, NotServed
from .desired import Desired
from .plugin import plugin
from .progress import shown
from .report import served, serving
from .wish import Wish

SAFETENSORS = (".safetensors", ".sft")

Check = Callable[[], None]


class Session:
    """`make_room` frees the UI's device memory: bytes wanted to bytes freed."""

    def __init__(self, desired: Desired, wish: Wish, make_room: Callable[[int], int]) -> None:
        self.desired = desired
        self._wish, self._make_room = wish, make_room
        self._run: EngineRun | None = None
        self._answer: Answerer | None = None
        self._check: Check = lambda: None

    def open(self, check: Check, residuals: bool = False) -> None:
        """Brings an engine to the desired state. Raises NotServed, SidecarError, or what `check` raises."""
        self.close()
        self._check = check
        service = plugin()
        service.ensure(check)
        stack = tuple(StackEntry(_id(applied.path, check), applied.strength) for applied in self.desired.stack)
        wanted = Wanted(_id(self.desired.checkpoint, check), stack, self._wish.host, "auto", residuals)
        run = EngineRun(service.client, wanted, lambda: self._check(), self._make_room)
        with shown(service.status, self.desired.name, wanted.checkpoint in service.served) as progress:
            run.prepare(progress)
        service.served.add(wanted.checkpoint)
        self._run, self._answer = run, Answerer(run)
        refused = next((line for line in run.report.ignored if "extended mode" in line), None)
        if refused is not None:
            raise NotServed(f"an engine would leave out what this UI applies ({refused})", "RUN_ADAPTER_KIND")
        serving(self.desired, run.report)

    def answer(self, call: Call, check: Check) -> torch.Tensor:
        """Raises NotServed, SidecarError, or what `check` raises."""
        self._check = check
        if self._run is None or (call.residuals and not self._run.wanted.residuals):
            self.open(check, residuals=bool(call.residuals))
        assert self._run is not None and self._answer is not None
        shape = self._run.inputs.get("sample", [])
        if len(shape) == call.x.ndim and isinstance(shape[1], int) and call.x.shape[1] != shape[1]:
            raise NotServed(f"the model is called with {call.x.shape[1]} channels where its checkpoint has {shape[1]}", "RUN_INPUT")
        return self._answer(call)

    def close(self) -> None:
        """Never raises and never waits."""
        run, self._run, self._answer = self._run, None, None
        if run is not None:
            run.close()
            if run.report.steps:
                served(self.desired, run.report)


def _id(path: str, check: Check) -> str:
    if not path.lower().endswith(SAFETENSORS):
        raise NotServed(f"{os.path.basename(path)} is no safetensors file", "RUN_FILE")
    try:
        return plugin().catalog.entry(os.path.abspath(path), check)["id"]
    except SidecarError as error:
        if error.fault == "connection":
            raise
        raise NotServed(f"{os.path.basename(path)}: {error}", "RUN_FILE") from error
