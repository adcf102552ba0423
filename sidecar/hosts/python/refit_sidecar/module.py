"""RefitModule: `pipe.unet = RefitModule(pipe.unet)`. In: any torch module. Out: the very module, whose calls an engine answers. Never: another answer than
the module's own.

The object stays what it is: its class becomes a subclass of its own class, so configuration, state_dict, PEFT, hooks and every isinstance go on working.
"""

from __future__ import annotations

import functools
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from .core import Core, Listener
from .counted import uncount
from .options import options_of
from .shapes import Ranges
from .shared import core_for
from .states import State
from .switching import Switchboard, diffusers_calls, layers_of
from .watched import watch
from .weights import Refit


class RefitModule(nn.Module):
    """Wraps a module in place.

    `RefitModule(module, precision="keep", host="auto", tier="auto", device=None, mode="make_refittable", offload_module_to_cpu=False, cache_built_engines=False,
    reuse_cached_engines=False, engine_cache_dir=None, engine_cache_size=5 << 30, tolerance=None)` returns `module` itself. Its first call builds an
    engine; later calls notice every change of weights and adapters, and refit the engine instead of building another.
    """

    _refit: Core

    def __new__(cls, module: nn.Module | None = None, **options: Any) -> "RefitModule":
        if module is None:
            # copy and pickle make an object before they fill it.
            return super().__new__(cls)
        if not isinstance(module, nn.Module):
            raise TypeError(f"RefitModule: expected a torch.nn.Module, got {type(module).__name__}")
        if isinstance(module, RefitModule):
            raise TypeError("RefitModule: this module is one already; unwrap() gives the plain module back")
        options_of(options)
        module.__class__ = _derived(cls, type(module))  # pyright: ignore[reportArgumentType]  a class is hashable
        return module

    def __init__(self, module: nn.Module | None = None, **options: Any) -> None:
        if module is None:
            raise TypeError("RefitModule: expected a module")
        original = type(self)._refit_original_class
        self.__dict__["_refit"] = core_for(self, original, options_of(options))
        for tensor in (*self.parameters(), *self.buffers()):
            watch(tensor)
        if "_old_forward" in self.__dict__:
            # accelerate's hook calls what was the forward when it was added.
            self.__dict__["_old_forward"] = functools.partial(_call, self)

    # --- state

    @property
    def state(self) -> State:
        """What the engine is to the module now. Looks at every parameter, computes nothing."""
        return self._refit.state

    @property
    def reason(self) -> str:
        """Why the state is what it is, in one line."""
        return self._refit.reason

    @property
    def served_by(self) -> str:
        """Who answered the last call: "engine", or "original: " and why."""
        return self._refit.last_server

    @property
    def tier(self) -> str:
        """How the engine runs: eager, compiled, in CUDA graphs."""
        return self._refit.tier

    @property
    def last_refit(self) -> Refit | None:
        """What the latest refit or build wrote."""
        return self._refit.refits[-1] if self._refit.refits else None

    @property
    def counts(self) -> dict[str, int]:
        """Calls by who answered, engines built, refits (the first values of an engine among them), compilations that came from the engine cache."""
        core = self._refit
        return {**core.served, "builds": core.builds, "refits": len(core.refits), "cache_hits": core.cache.hits}

    def on_state(self, listener: Listener) -> Callable[[], None]:
        """Calls `listener(state, reason)` at every change; the returned function ends that."""
        self._refit.listeners.append(listener)
        return lambda: self._refit.listeners.remove(listener)

    @property
    def refit_map(self) -> dict[str, str]:
        """By name of every parameter and buffer: "refittable", "same as NAME" for a tied one, or why it is not."""
        from .snapshot import NotServed, take

        try:
            found = take(self)
        except NotServed as error:
            return {name: f"not refittable: {error}" for name, _ in self.named_parameters()}
        return {**dict.fromkeys(found.tensors, "refittable"), **{name: f"same as {other}" for name, other in found.tied.items()}}

    # --- weights

    def refit(self, **tensors: Tensor) -> Refit | None:
        """Gives parameters new values and brings the engine up to date now: `module.refit(**{"conv_in.weight": value})`. Without arguments only the latter.
        Raises KeyError for an unknown name and ValueError for another shape; nothing is written then."""
        if tensors:
            refit_module_weights(self, tensors)
        return self._refit.bring_now()

    @contextmanager
    def adapters(self, **strengths: float) -> Iterator["RefitModule"]:
        """Within it exactly these adapters are on, at these strengths: `with module.adapters(a=0.8, b=-0.2): ...`. What was on before comes back.
        Raises KeyError for an adapter that the module does not have."""
        board = self._refit.switchboard() or Switchboard(layers_of(self))
        missing = sorted(strengths.keys() - board.names)
        if missing:
            raise KeyError(f"the module has no adapter {', '.join(missing)}; it has {', '.join(sorted(board.names)) or 'none'}")
        if not board.has_strengths:
            raise TypeError("a PEFT layer of this module has no strength that could be set")
        with board.exactly(strengths):
            yield self

    # --- engine

    def set_expected_dynamic_shape_range(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Sizes that calls will have, in the form of torch.export's `dynamic_shapes`: Dim ranges by dimension, nested as the arguments are, None for what has
        none. A call outside compiles once more, for any size, and says so. Raises shapes.RangeError."""
        self._refit.ranges = Ranges.of(args, kwargs)

    def drop_engine(self) -> None:
        """Gives the engine's memory back; the next call builds another one."""
        self._refit.drop()

    def unwrap(self) -> nn.Module:
        """The plain module again, without an engine."""
        self._refit.drop()
        original = type(self)._refit_original_class
        core = self.__dict__.pop("_refit")
        if "_old_forward" in self.__dict__:
            self.__dict__["_old_forward"] = functools.partial(core.original_class.forward, self)
        self.__class__ = original
        uncount(self)
        return self

    def save(self, path: str | Path) -> Path:
        """Writes weights, structure and options, so that `RefitModule.load` needs neither a build nor the original file."""
        from .saved import save

        return save(self, Path(path))

    @staticmethod
    def load(path: str | Path) -> "RefitModule":
        """A module that `save` wrote. Raises saved.SavedModuleError with one line for a file of another device, version or owner, and for a damaged one."""
        from .saved import load

        return load(Path(path))

    # --- as the module itself

    def __deepcopy__(self, memo: dict[int, Any]) -> nn.Module:
        """A plain module: an engine belongs to one object."""
        import copy

        own = self.__class__
        core = self.__dict__.pop("_refit")
        try:
            self.__class__ = own._refit_original_class
            memo[id(self)] = copied = copy.deepcopy(self, {key: value for key, value in memo.items() if key != id(self)})
            return copied
        finally:
            self.__class__ = own
            self.__dict__["_refit"] = core

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Pickled as the plain module."""
        state = {key: value for key, value in self.__dict__.items() if key != "_refit"}
        return _blank, (type(self)._refit_original_class,), state


def _blank(kind: type) -> nn.Module:
    """A module without state, for pickle to fill."""
    return kind.__new__(kind)  # pyright: ignore[reportCallIssue]  copy and pickle make a bare object


def _call(module: RefitModule, *args: Any, **kwargs: Any) -> Any:
    return module._refit.call(args, kwargs)


@functools.lru_cache(maxsize=256)
def _derived(kind: type, original: type) -> type:
    """A subclass of both that calls itself as the original does."""

    @functools.wraps(original.forward)
    def forward(self: RefitModule, *args: Any, **kwargs: Any) -> Any:
        return self._refit.call(args, kwargs)

    names = {
        "forward": forward,
        "_refit_original_class": original,
        "__module__": original.__module__,
        "__qualname__": original.__qualname__,
        "__doc__": original.__doc__,
        **diffusers_calls(original, lambda module: module._refit.switchboard()),
    }
    return type(original.__name__, (kind, original), names)


@torch.no_grad()
def refit_module_weights(module: nn.Module, new_weights: Mapping[str, Tensor]) -> nn.Module:
    """Writes new values into a module's parameters and buffers; an engine behind it follows at its next call, with the changed ones only. `new_weights`: by name, in the
    shapes that the module has. Raises KeyError for an unknown name and ValueError for another shape; nothing is written then."""
    held = {**dict(module.named_parameters(remove_duplicate=False)), **dict(module.named_buffers(remove_duplicate=False))}
    plain = {name.replace(".base_layer.", "."): tensor for name, tensor in held.items()}
    found = {}
    for name, value in new_weights.items():
        target = held.get(name, plain.get(name))
        if target is None:
            raise KeyError(
                f"{name}: the module has no such parameter or buffer; {len(held)} names are in named_parameters() and named_buffers()"
            )
        if target.shape != value.shape:
            raise ValueError(f"{name}: expected the shape {list(target.shape)}, got {list(value.shape)}")
        found[name] = target
    for name, target in found.items():
        target.copy_(new_weights[name])
    return module
