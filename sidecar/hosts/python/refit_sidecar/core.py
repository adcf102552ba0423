"""The engine behind one module: built at the first call, refitted when values change, built anew when the structure does. In: the module and its calls.
Out: what the module would answer. Never: a result of weights that are not the module's; whatever goes wrong, the original module answers.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import Any, Callable, Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from .cache import EngineCache
from .coded import coded_of
from .comparing import equal, structure_difference
from .copying import engine_module
from .options import Options
from .running import TOLERANCES, Runner, difference
from .shapes import Ranges
from .snapshot import Look, NotServed, Snapshot, take
from .states import State
from .switching import Switchboard
from .weights import LiveWeights, Refit

log = logging.getLogger("refit_sidecar")
Listener = Callable[[State, str], None]
# Keyword arguments in which diffusers passes the strength of all adapters for one call.
SCALE_ARGUMENTS = ("cross_attention_kwargs", "joint_attention_kwargs", "attention_kwargs")
# accelerate hooks that move weights: an engine cannot follow them.
MOVING_HOOKS = ("AlignDevicesHook", "CpuOffload", "UserCpuOffloadHook", "LayerwiseCastingHook")


class Core:
    def __init__(self, module: nn.Module, original_class: type, options: Options) -> None:
        self.module, self.original_class, self.options = module, original_class, options
        self.cache = EngineCache(
            options.cache_folder, keep=options.cache_built_engines, reuse=options.reuse_cached_engines, limit=options.engine_cache_size
        )
        self.ranges: Ranges | None = None
        self.listeners: list[Listener] = []
        self.builds = 0
        self.refits: list[Refit] = []
        self.served = {"engine": 0, "original": 0}
        self.last_server = ""
        self._snapshot: Snapshot | None = None
        self._weights: LiveWeights | None = None
        self._runner: Runner | None = None
        self._state, self._reason = State.NEEDS_RECOMPILE, "no call was made yet"
        self._seen: tuple[tuple, dict[str, Any]] | None = None
        self._said: set[str] = set()
        self._busy = False
        self._board: tuple[dict[str, nn.Module], Switchboard] | None = None

    # --- states

    @property
    def state(self) -> State:
        """Looks at the module again, and computes nothing."""
        if self._weights is None or self._snapshot is None or self._state is State.NEEDS_RECOMPILE:
            return self._state
        look = self._snapshot.look()
        if look is Look.SAME:
            return self._state
        try:
            if look is Look.OTHER:
                self._weights.other_layers()
            state, reason, _ = self._compare(self._snapshot if look is Look.VALUES else take(self.module))
        except NotServed as error:
            state, reason = State.NEEDS_RECOMPILE, str(error)
        return self._to(state, reason)

    @property
    def reason(self) -> str:
        self.state  # noqa: B018 - looks again
        return self._reason

    def _to(self, state: State, reason: str) -> State:
        if (state, reason) != (self._state, self._reason):
            before, self._state, self._reason = self._state, state, reason
            if state is not before:
                log.info("refit_sidecar: %s -> %s: %s", before.value, state.value, reason)
            for listener in list(self.listeners):
                listener(state, reason)
        return state

    def _compare(self, now: Snapshot) -> tuple[State, str, list[str]]:
        """What a new look at the module means for the engine: (state, reason, names that differ)."""
        assert self._snapshot is not None and self._weights is not None
        if now.structure != self._snapshot.structure:
            return State.NEEDS_RECOMPILE, structure_difference(self._snapshot, now), []
        odd = [
            key
            for key in now.attributes.keys() | self._snapshot.attributes.keys()
            if not equal(now.attributes.get(key), self._snapshot.attributes.get(key))
        ]
        if odd:
            name, attribute = sorted(odd)[0]
            return State.UNKNOWN, f"the attribute {attribute} of {name or 'the module'} changed", []
        names = self._weights.differs(now)
        if not names:
            return State.LIVE, "every value is the module's", []
        return State.NEEDS_REFIT, f"{len(names)} values changed, {names[0]} among them", names

    # --- calls

    def call(self, args: tuple, kwargs: dict[str, Any]) -> Any:
        """What the module's forward would answer, from the engine where it can serve."""
        if self._busy:
            return self.original(args, kwargs)
        why = self._not_now(args, kwargs)
        if why is not None:
            return self._fall_back(why, args, kwargs)
        self._busy = True
        try:
            with self._call_scale(kwargs) as ready:
                try:
                    self._bring(args, ready)
                    assert self._snapshot is not None
                    if self._snapshot.hooked:
                        raise NotServed("an inner module has hooks, which an engine would not call")
                    output = self._answer(args, ready)
                except NotServed as error:
                    return self._fall_back(str(error), args, ready)
                except torch.OutOfMemoryError as error:
                    self.drop()
                    return self._fall_back(f"not enough device memory for an engine ({str(error).splitlines()[0][:120]})", args, ready)
            self._seen = (args, ready)
            self.served["engine"] += 1
            self.last_server = "engine"
            return output
        finally:
            self._busy = False

    def original(self, args: tuple, kwargs: Mapping[str, Any]) -> Any:
        """The module's own forward."""
        return self.original_class.forward(self.module, *args, **kwargs)

    def _say(self, text: str) -> None:
        """Once."""
        if text not in self._said:
            self._said.add(text)
            log.warning("refit_sidecar: %s", text)

    def _fall_back(self, why: str, args: tuple, kwargs: Mapping[str, Any]) -> Any:
        self._say(f"the original module runs: {why}")
        self.served["original"] += 1
        self.last_server = f"original: {why}"
        return self.original(args, kwargs)

    def _not_now(self, args: tuple, kwargs: Mapping[str, Any]) -> str | None:
        """Why this call is the original's, None when it is the engine's."""
        if self.module.training:
            return "the module is in training mode (call eval())"
        if torch.is_grad_enabled() and self._wants_gradients(args, kwargs):
            return "gradients are wanted (use torch.no_grad())"
        if torch.compiler.is_compiling():
            return "it is traced by another compiler"
        hook = getattr(self.module, "_hf_hook", None)
        for each in getattr(hook, "hooks", (hook,)):
            if type(each).__name__ in MOVING_HOOKS:
                return f"{type(each).__name__} of accelerate moves its weights"
        return None

    def _wants_gradients(self, args: tuple, kwargs: Mapping[str, Any]) -> bool:
        leaves = pytree.tree_leaves((args, kwargs))
        return any(isinstance(leaf, Tensor) and leaf.requires_grad for leaf in leaves) or any(
            each.requires_grad for each in self.module.parameters()
        )

    @contextmanager
    def _call_scale(self, kwargs: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """diffusers' scale of all adapters for one call: set on PEFT's layers while the call runs, as diffusers does."""
        ready, scale = kwargs, 1.0
        for name in SCALE_ARGUMENTS:
            inner = kwargs.get(name)
            if isinstance(inner, Mapping) and "scale" in inner:
                ready = {**ready, name: {key: value for key, value in inner.items() if key != "scale"}}
                scale = inner["scale"]
        if scale == 1.0:
            yield ready
            return
        from diffusers.utils.peft_utils import scale_lora_layers, unscale_lora_layers

        scale_lora_layers(self.module, scale)
        try:
            yield ready
        finally:
            unscale_lora_layers(self.module, scale)

    def _bring(self, args: tuple, kwargs: Mapping[str, Any]) -> None:
        """The engine becomes the module's. Raises NotServed and out-of-memory errors."""
        if self._snapshot is not None and self._weights is not None and self._state in (State.LIVE, State.NEEDS_REFIT):
            look = self._snapshot.look()
            if look is Look.VALUES or (look is Look.SAME and self._state is State.NEEDS_REFIT):
                if self.options.mode != "fixed":
                    if self._state is State.LIVE:
                        self._to(State.NEEDS_REFIT, "values or adapters changed")
                    self._refit(self._snapshot, args, kwargs, base_is_same=self._snapshot.base_is_same)
                    look = Look.SAME
            if look is Look.SAME:
                self._outside(args, kwargs)
                return
        now = take(self.module)
        if self._weights is not None:
            self._weights.other_layers()
        if self._snapshot is None or self._weights is None:
            self._build(now, args, kwargs)
            return
        state, reason, _ = self._compare(now)
        if self._state is State.NEEDS_RECOMPILE:
            state, reason = self._state, self._reason
        self._to(state, reason)
        if state is State.UNKNOWN:
            state = self._decide(now)
        if state is State.NEEDS_REFIT and self.options.mode == "fixed":
            state = self._to(State.NEEDS_RECOMPILE, "the engine was made with fixed weights, and they changed")
        if state is State.NEEDS_RECOMPILE:
            self._build(now, args, kwargs)
        elif state is State.NEEDS_REFIT:
            self._refit(now, args, kwargs)
        else:
            self._snapshot = now
            self._to(State.LIVE, "every value is the module's")
        self._outside(args, kwargs)

    def bring_now(self) -> Refit | None:
        """Brings the engine up to date without a call; None when it was, or when there is none yet."""
        if self._weights is None or self._seen is None:
            return None
        before = self.refits[-1]
        try:
            self._bring(*self._seen)
        except NotServed:
            return None
        return self.refits[-1] if self.refits[-1] is not before else None

    def switchboard(self) -> Switchboard | None:
        """All adapters at once, as long as the module has the layers that it had at its last call and all of them are plain LoRA."""
        if self._snapshot is None or not self._snapshot.tuners or not self._snapshot.same_objects:
            return None
        if self._board is None or self._board[0] is not self._snapshot.tuners:
            self._board = (self._snapshot.tuners, Switchboard(list(self._snapshot.tuners.values())))
        return self._board[1] if self._board[1].plain else None

    def _outside(self, args: tuple, kwargs: Mapping[str, Any]) -> None:
        """A call outside of the expected sizes: said, and compiled once for any size."""
        if self.ranges is None:
            return
        found = self.ranges.outside(args, kwargs)
        if found is None:
            return
        self.ranges = None
        self._to(State.NEEDS_RECOMPILE, f"{found}; compiling again for any size")
        log.warning("refit_sidecar: %s, the range that set_expected_dynamic_shape_range gave; compiling once more, for any size", found)
        self._build(take(self.module), args, kwargs)

    def _decide(self, now: Snapshot) -> State:
        """Runs the original and the engine on the last call's arguments: equal outputs settle what no rule could."""
        assert self._weights is not None and self._runner is not None
        if self._seen is None:
            return self._to(State.NEEDS_RECOMPILE, f"{self._reason}, and no call is there to compare with")
        self._record(self._weights.refit(now))
        with torch.no_grad():
            expected = self.original(*self._seen)
        error = difference(self._answer(*self._seen), expected)
        if error <= self._tolerance(expected):
            return self._to(State.LIVE, f"{self._reason}; the engine's output is the module's (error {error:.1e})")
        return self._to(State.NEEDS_RECOMPILE, f"{self._reason}; the engine's output differs by {error:.1e}")

    def _tolerance(self, expected: Any) -> float:
        if self.options.tolerance is not None:
            return self.options.tolerance
        kinds = {leaf.dtype for leaf in pytree.tree_leaves(expected) if isinstance(leaf, Tensor)} | (
            {self.options.dtype} if self.options.dtype else set()
        )
        return max((TOLERANCES.get(kind, 1e-3) for kind in kinds), default=1e-3)

    def _refit(self, now: Snapshot, args: tuple, kwargs: Mapping[str, Any], *, base_is_same: bool = False) -> None:
        assert self._weights is not None
        try:
            done = self._weights.refit(now, base_is_same=base_is_same)
        except (torch.OutOfMemoryError, NotServed):
            raise
        except Exception as error:  # PEFT's merges may fail in any way: a fresh engine is made, and if that fails too the original answers
            log.warning("refit_sidecar: a refit failed (%s: %s); building the engine anew", type(error).__name__, str(error)[:160])
            self._to(State.NEEDS_RECOMPILE, f"a refit failed: {type(error).__name__}")
            self._build(take(self.module), args, kwargs)
            return
        self._record(done)
        now.keep()
        self._snapshot = now
        self._to(State.LIVE, f"refitted {len(done.written)} values in {done.ms:.1f} ms")

    def _record(self, done: Refit) -> None:
        self.refits.append(done)
        del self.refits[:-256]

    def _build(self, now: Snapshot, args: tuple, kwargs: Mapping[str, Any]) -> None:
        """A new engine for what the module is now."""
        self.drop()
        try:
            self._weights, self._runner, done = self._make(now, args, kwargs)
        except (torch.OutOfMemoryError, NotServed):
            raise
        except Exception as error:  # an adapter that PEFT itself cannot merge, arguments that the module refuses
            raise NotServed(f"no engine can be made ({type(error).__name__}: {str(error)[:160]})") from error
        self._snapshot = take(self.module)
        self.builds += 1
        self._record(done)
        self._to(State.LIVE, f"built for {len(now.tensors)} parameters, {self._runner.tier}")

    def _make(self, now: Snapshot, args: tuple, kwargs: Mapping[str, Any]) -> tuple[LiveWeights, Runner, Refit]:
        """Weights and a way to run for what the module is now, up to date."""
        device = self._device(now)
        if self.options.offload_module_to_cpu and device.type == "cuda":
            self.module.to("cpu")
            now = take(self.module)
        elif self.options.offload_module_to_cpu:
            self._say(f"offload_module_to_cpu: the engine runs on {device.type}, where there is nothing to give back")
        keep = _kept_in_f32(self.module, now)
        form = self.options.form
        coded = None
        if form is not None:
            empty = engine_module(self.module, self.original_class, now, lambda name: torch.empty_like(now.tensors[name], device="meta"))
            coded = coded_of(empty, now, form, device)
        weights = LiveWeights(now, device, self.options.dtype, keep, coded)
        done = weights.refit(now)

        def copy() -> nn.Module:
            made = engine_module(self.module, self.original_class, now, weights.parameter)
            return made if coded is None else coded.bind(made)

        self.cache.select(now.structure, self.options.precision, device)
        runner = Runner(copy(), device, self.options.tier, self.cache)
        ready = self._cast(args, kwargs, device)
        runner.compile(*ready, copy)
        return weights, runner, done

    def _device(self, now: Snapshot) -> torch.device:
        if self.options.device is not None:
            return self.options.device
        found = next((tensor.device for tensor in now.tensors.values()), torch.device("cpu"))
        if found.type == "meta":
            raise NotServed("its weights lie on the meta device: they were never loaded")
        if found.type == "cpu" and self.options.offload_module_to_cpu and torch.cuda.is_available():
            return torch.device("cuda")
        return found

    def _answer(self, args: tuple, kwargs: Mapping[str, Any]) -> Any:
        assert self._runner is not None and self._snapshot is not None
        device = self._device(self._snapshot)
        output = self._runner(*self._cast(args, kwargs, device))
        own, wanted = _own_format(self._snapshot), self.options.dtype
        if wanted is None or own is None or own == wanted:
            return output
        return pytree.tree_map(lambda leaf: leaf.to(own) if isinstance(leaf, Tensor) and leaf.dtype == wanted else leaf, output)

    def _cast(self, args: tuple, kwargs: Mapping[str, Any], device: torch.device) -> tuple[tuple, dict[str, Any]]:
        """Tensors in the engine's number format, on its device."""
        wanted, own = self.options.dtype, None if self._snapshot is None else _own_format(self._snapshot)
        own = own or next((each.dtype for each in self.module.parameters() if each.is_floating_point()), None)

        def one(leaf: Any) -> Any:
            if not isinstance(leaf, Tensor):
                return leaf
            leaf = leaf if leaf.device == device or (leaf.dim() == 0 and leaf.device.type == "cpu") else leaf.to(device)
            return leaf.to(wanted) if wanted is not None and leaf.dtype == own else leaf

        return pytree.tree_map(one, args), pytree.tree_map(one, dict(kwargs))

    # --- for the public class

    def drop(self) -> None:
        """Gives the engine's memory back; the next call builds another one."""
        if self._runner is not None:
            self._runner.release()
        self._runner = self._weights = self._snapshot = None
        if self._state is not State.NEEDS_RECOMPILE:
            self._to(State.NEEDS_RECOMPILE, "there is no engine")

    @property
    def tier(self) -> str:
        return "none" if self._runner is None else self._runner.tier


def _own_format(snapshot: Snapshot) -> torch.dtype | None:
    return next(
        (tensor.dtype for name, tensor in snapshot.tensors.items() if name in snapshot.parameters and tensor.is_floating_point()), None
    )


def _kept_in_f32(module: nn.Module, snapshot: Snapshot) -> frozenset[str]:
    """diffusers lists modules of some classes that stay in f32 whatever the rest is in."""
    parts = tuple(getattr(module, "_keep_in_fp32_modules", None) or ())
    return frozenset(name for name in snapshot.tensors if any(part in name.split(".") for part in parts))
