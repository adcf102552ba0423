"""The second home: a running sidecar, shared with UIs. In: a module's weights and calls. Out: the same answers, from the sidecar's engine. Never: a result of
weights that are not the module's; when the sidecar is away, the original answers.

The module's own values go to the sidecar as a checkpoint file in a folder of this process, once; adapters go low-rank, by content; what changed since goes as the
changed parameters alone.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Mapping

import torch
from safetensors import safe_open
from torch import Tensor, nn

from .calls import Calls
from .core import Core
from .lease import Lease, Part
from .options import Options
from .peft_layers import adapter_names, has_adapter, low_rank, merged_values, settle
from .running import difference
from .snapshot import NotServed, Snapshot
from .watched import token
from .weights import Refit

PRECISIONS = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}
# A share of changed bytes over which a new checkpoint file is written instead of the changes.
REWRITE_SHARE = 0.5
# After the sidecar has refused a module.
TRY_AGAIN_S = 30


class SharedWeights:
    """What is live at the sidecar, in the words of weights.LiveWeights."""

    def __init__(self, lease: Lease, calls: Calls, persistent: frozenset[str], device: torch.device) -> None:
        self._lease, self._calls, self._persistent, self._device = lease, calls, persistent, device
        self._written: dict[str, tuple[Any, ...]] = {}
        self._file: Path | None = None
        self._live: dict[str, tuple[Any, ...]] = {}
        self._bases: dict[str, tuple[Any, ...]] = {}

    def other_layers(self) -> None:
        """Nothing of PEFT's layers is kept here."""

    def differs(self, snapshot: Snapshot) -> list[str]:
        terms, bases = self._terms(snapshot), snapshot.tokens()
        return [
            name for name in snapshot.tensors if self._bases.get(name) != bases[name] or self._live.get(name, ()) != terms.get(name, ())
        ]

    def _rows(self, snapshot: Snapshot) -> tuple[dict[str, list[Any]], dict[str, tuple[Any, tuple[str, ...]]]]:
        """Layer name -> its plain products; parameter -> layer and adapters that PEFT has to merge."""
        plain: dict[str, list[Any]] = {}
        slow: dict[str, tuple[Any, tuple[str, ...]]] = {}
        for name, layer in snapshot.tuners.items():
            if layer._disable_adapters or layer.merged_adapters:
                continue
            names = tuple(each for each in adapter_names(layer._active_adapter) if has_adapter(layer, each))
            terms = [low_rank(layer, each) for each in names]
            known = [term for term in terms if term is not None]
            if len(known) == len(terms):
                plain[name] = [term for term in known if term.scale != 0]
            else:
                slow |= {
                    f"{name}.{key}" if name else key: (layer, names)
                    for key, value in layer.get_base_layer()._parameters.items()
                    if value is not None
                }
        return plain, slow

    def _terms(self, snapshot: Snapshot) -> dict[str, tuple[Any, ...]]:
        plain, slow = self._rows(snapshot)
        found: dict[str, tuple[Any, ...]] = {
            f"{name}.weight": tuple((term.adapter, term.scale, _token(term.up), _token(term.down)) for term in terms)
            for name, terms in plain.items()
            if terms
        }
        for name, (layer, names) in slow.items():
            scales = getattr(layer, "scaling", {})
            inner = [
                each for key, child in layer._modules.items() if key != "base_layer" and child is not None for each in child.parameters()
            ]
            found[name] = ("slow", names, tuple(scales.get(each) for each in names), *map(_token, inner))
        return found

    @torch.no_grad()
    def refit(self, snapshot: Snapshot, *, base_is_same: bool = False) -> Refit:
        """Raises NotServed."""
        began = time.perf_counter()
        self._lease.reachable()
        for layer in snapshot.tuners.values():
            settle(layer)
        plain, slow = self._rows(snapshot)
        terms, bases = self._terms(snapshot), snapshot.tokens()
        moved = [name for name, stamp in bases.items() if self._bases.get(name) != stamp]
        written = [name for name in snapshot.tensors if name in moved or self._live.get(name, ()) != terms.get(name, ())]
        kept = {name: tensor for name, tensor in snapshot.tensors.items() if name in self._persistent}
        changed = [name for name in kept if self._written.get(name) != bases[name] and name not in slow]
        size = sum(tensor.nbytes for tensor in kept.values())
        # Adapter files have words for weights and biases alone.
        odd = [name for name in changed if name.rpartition(".")[2] not in ("weight", "bias")]
        if self._file is None or odd or sum(kept[name].nbytes for name in changed) > REWRITE_SHARE * size:
            self._file = self._lease.checkpoint(kept)
            self._written, changed = {name: bases[name] for name in kept}, []
        parts = [self._values(snapshot, changed, slow, bases, terms)] if changed or slow else []
        parts += self._products(plain)
        self._lease.want(parts)
        self._live, self._bases = terms, bases
        names = [term.adapter for rows in plain.values() for term in rows] + [each for _, held in slow.values() for each in held]
        adapters = tuple(dict.fromkeys(names))
        return Refit(tuple(written), tuple(moved), adapters, (time.perf_counter() - began) * 1000)

    def _values(
        self, snapshot: Snapshot, changed: list[str], slow: Mapping[str, Any], bases: Mapping[str, Any], terms: Mapping[str, Any]
    ) -> Part:
        """Changed parameters: matrices as they are now, vectors as what is added to the file's."""
        key = ("values", *((name, bases[name], terms.get(name) if name in slow else None) for name in (*changed, *slow)))

        def tensors() -> dict[str, Tensor]:
            now: dict[str, Tensor] = {name: snapshot.tensors[name].detach() for name in changed}
            done: dict[int, dict[str, Tensor]] = {}
            for name, (layer, names) in slow.items():
                if id(layer) not in done:
                    done[id(layer)] = merged_values(layer, names, self._device)
                now[name] = done[id(layer)][name.rpartition(".")[2]]
            out = {}
            assert self._file is not None
            with safe_open(self._file, "pt") as file:
                for name, value in now.items():
                    stem, _, leaf = name.rpartition(".")
                    if leaf == "weight" and value.dim() > 1:
                        out[f"{self._calls.stem(stem)}.set_weight"] = value
                    elif leaf in ("weight", "bias"):
                        out[f"{self._calls.stem(stem)}.diff{'_b' if leaf == 'bias' else ''}"] = (
                            value.cpu().float() - file.get_tensor(name).float()
                        )
                    else:
                        raise NotServed(f"a change of {name} cannot travel to a running sidecar")
            return out

        return Part(key, 1.0, tensors)

    def _products(self, plain: Mapping[str, list[Any]]) -> list[Part]:
        """Adapters, in their order; layers of one strength travel together, so that a change of strength sends nothing."""
        groups: dict[tuple[str, float], dict[str, Any]] = {}
        for name, terms in plain.items():
            for term in terms:
                groups.setdefault((term.adapter, term.scale), {})[name] = term

        def tensors(held: Mapping[str, Any]) -> dict[str, Tensor]:
            out = {}
            for name, term in held.items():
                stem = self._calls.stem(name)
                out |= {f"{stem}.lora_up.weight": term.up, f"{stem}.lora_down.weight": term.down}
            return out

        return [
            Part(
                ("adapter", *((name, _token(term.up), _token(term.down)) for name, term in held.items())),
                scale,
                lambda held=held: tensors(held),
            )
            for (_, scale), held in groups.items()
        ]


def _token(tensor: Tensor) -> tuple[Any, ...]:
    return id(tensor), *token(tensor)


class SharedRunner:
    """Steps at the sidecar, in the words of running.Runner."""

    def __init__(self, lease: Lease, calls: Calls) -> None:
        self._lease, self._calls = lease, calls

    @property
    def tier(self) -> str:
        return f"a running sidecar ({self._lease.host})"

    def __call__(self, args: tuple, kwargs: Mapping[str, Any]) -> Any:
        tensors, answer = self._calls.inputs(args, kwargs)
        like = tensors["sample"]
        return answer(self._lease.step(tensors).to(like.device, like.dtype))

    def release(self) -> None:
        self._lease.close()


class SharedCore(Core):
    """A module whose engine is the sidecar's."""

    _refused: tuple[Any, float, str] | None = None

    @torch.no_grad()
    def _make(self, now: Snapshot, args: tuple, kwargs: Mapping[str, Any]) -> tuple[Any, Any, Refit]:
        if self._refused is not None and self._refused[0] == now.structure and time.monotonic() < self._refused[1]:
            raise NotServed(self._refused[2])
        calls = Calls(self.module, self.original_class)
        calls.inputs(args, kwargs)
        own = next((tensor for name, tensor in now.tensors.items() if name in now.parameters and tensor.is_floating_point()), None)
        if own is None or own.dtype not in PRECISIONS:
            raise NotServed("a running sidecar takes weights in fp32, fp16 or bf16")
        lease = Lease(self.options, PRECISIONS[own.dtype] if self.options.precision == "keep" else self.options.precision)
        until = time.monotonic()
        try:
            lease.reachable()
            until += TRY_AGAIN_S
            persistent = frozenset(name.replace(".base_layer.", ".") for name in self.module.state_dict())
            weights, runner = SharedWeights(lease, calls, persistent, own.device), SharedRunner(lease, calls)
            done = weights.refit(now)
            # Some of a configuration leaves no trace in names and shapes (heads, activations): only the answers tell whether it is the same model.
            expected = self.original(args, kwargs)
            error = difference(runner(args, kwargs), expected)
            if not error <= self._tolerance(expected):
                until = float("inf")
                raise NotServed(f"the sidecar's engine computes another model than this one (its answer differs by {error:.1e})")
            return weights, runner, done
        except BaseException as error:
            lease.close()
            if isinstance(error, NotServed):
                # Gigabytes are not written anew at every call.
                self._refused = (now.structure, until, str(error))
            raise

    def _answer(self, args: tuple, kwargs: Mapping[str, Any]) -> Any:
        assert self._runner is not None
        return self._runner(args, kwargs)


def core_for(module: nn.Module, original: type, options: Options) -> Core:
    return (SharedCore if options.host == "sidecar" else Core)(module, original, options)
