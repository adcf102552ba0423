"""One denoiser call on the engine, split into smaller batches where the engine takes no larger ones."""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from ...client import SidecarError, Tensor
from ...engine import EngineRun
from .calls import Call, NotServed
from .on_device import OnDevice
from .tensors import from_bytes, from_wire, same_bits, to_wire

# The sidecar's word for tensors beyond what the engine takes.
BEYOND_PROFILE = "STEP_INPUT_INVALID"

# Of one input: a positive and a negative conditioning that ComfyUI brings in calls of their own, and areas.
SENT_PER_INPUT = 4


class Answerer:
    """Answers the calls of one run. Remembers the largest batch that the engine takes."""

    def __init__(self, run: EngineRun) -> None:
        self._run = run
        self._on_device = OnDevice(run)
        self._largest: int | None = None
        # Inputs that are the same over a run, as they were sent last: a GPU's stay there, and are compared there.
        self._sent: dict[str, list[tuple[torch.Tensor, Tensor]]] = {}

    def __call__(self, call: Call) -> torch.Tensor | list[torch.Tensor]:
        """The result has device and dtype of the call's sample; a list where the sample is one. Raises NotServed or SidecarError."""
        if call.done_as is not None and call.x.shape[-1] == self._run.inputs[call.done_as][-1]:
            return call.x
        out = self._in_parts(call)
        if not call.streams:
            # Words have a width of their own; a step's answer is as large as its sample was before it was filled up to whole patches.
            return out[..., : call.x.shape[-2], : call.x.shape[-1]] if call.step else out
        pieces = out.flatten(1).split([math.prod(sizes) for sizes in call.streams], dim=1)
        streams = [piece.reshape(len(piece), *sizes) for piece, sizes in zip(pieces, call.streams, strict=True)]
        return streams if len(streams) > 1 else streams[0]

    def _in_parts(self, call: Call) -> torch.Tensor:
        batch = call.x.shape[0]
        if self._largest is None or batch <= self._largest:
            try:
                return self._whole(call)
            except SidecarError as error:
                if error.code != BEYOND_PROFILE or batch == 1:
                    raise
                # The engine's limit shows only here; half as many always fits sooner or later, or one says what is wrong.
                self._largest = batch // 2
        # A name of its own: a part that is refused as well makes `_largest` smaller while the parts are being cut.
        count = self._largest
        assert count is not None
        return torch.cat([self._in_parts(_part(call, start, count)) for start in range(0, batch, count)])

    def _whole(self, call: Call) -> torch.Tensor:
        taken = self._run.inputs.keys()
        residuals = self._residuals(call)
        tensors = {name: value for name, value in call.tensors.items() if name in taken or name not in call.conditional} | residuals
        missing = {name for name in taken if "residual" not in name} - tensors.keys() - call.optional - self._run.optional
        if missing and call.step:
            raise NotServed(f"the engine's input {sorted(missing)[0]!r}, which this run does not give", "RUN_INPUT")
        if unknown := tensors.keys() - taken:
            raise NotServed(f"the input {sorted(unknown)[0]!r}, which this engine does not take", "RUN_INPUT")
        kept = {name: self._wire(name, value, True) for name, value in tensors.items() if name in call.once}
        ours = {name: value for name, value in tensors.items() if name not in call.once}
        done = self._on_device.step(ours, kept, call.x, frozenset(residuals))
        if done is not None:
            return done
        out = self._run.step(kept | {name: self._wire(name, value, False) for name, value in ours.items()}, call.once)
        assert isinstance(out, Tensor)
        return from_bytes(out.data, from_wire(out.dtype), out.shape).to(device=call.x.device, dtype=call.x.dtype)

    def _wire(self, name: str, value: torch.Tensor, once: bool) -> Tensor:
        if not once or value.device.type == "cpu":
            return to_wire(name, value)
        sent = self._sent.setdefault(name, [])
        for known, wire in sent:
            if same_bits(known, value):
                return wire
        wire = to_wire(name, value)
        sent.insert(0, (value.clone(), wire))
        del sent[SENT_PER_INPUT:]
        return wire

    def _residuals(self, call: Call) -> dict[str, torch.Tensor]:
        if not call.residuals:
            # Also for a conditioning without the run's ControlNet, or steps outside of its range: residual inputs may be left out, all together.
            return {}
        names = [name for name in self._run.inputs if "residual" in name]
        if len(call.residuals) != len(names):
            raise NotServed(f"a ControlNet with {len(call.residuals)} residuals where this engine takes {len(names)}", "RUN_INPUT")
        return {name: value.to(call.x.dtype) for name, value in zip(names, call.residuals, strict=True)}


def _part(call: Call, start: int, count: int) -> Call:
    """Rows of every tensor; one of a single row belongs to all."""

    def rows(value: torch.Tensor) -> torch.Tensor:
        return value if value.shape[0] == 1 else value[start : start + count]

    return replace(
        call,
        tensors={name: rows(value) for name, value in call.tensors.items()},
        residuals=tuple(map(rows, call.residuals)),
        x=rows(call.x),
    )
