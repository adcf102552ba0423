"""Runs calls on an engine's module: plain, compiled, and on CUDA as one graph per size. In: a module over live weights, a call's arguments. Out: what the
module answers. Never: weights; a refit in place is seen by the next call whatever the way.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from contextlib import nullcontext
from typing import Any, Callable, Mapping

import torch
from refit_host.distance import relative_error
from refit_host.torch_engine.compiled import compile_blocks, steady
from refit_host.torch_engine.graphs import GraphedStep
from refit_host.weights.merge import triton_works
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from .cache import EngineCache

log = logging.getLogger("refit_sidecar")
TIERS = ("auto", "eager", "graphs", "compiled")
# Sets of arguments other than tensors that keep graphs of their own.
MAX_SIGNATURES = 8
TOLERANCES = {torch.float16: 0.02, torch.bfloat16: 0.06, torch.float32: 1e-3}


class Runner:
    """`tier`: "eager" the module as it is; "graphs" CUDA graphs of it; "compiled" its repeated blocks, or all of it, by torch.compile, in CUDA graphs on
    CUDA. "auto": compiled where Triton works, else eager."""

    def __init__(self, module: nn.Module, device: torch.device, tier: str, cache: EngineCache) -> None:
        self.module, self._device = module, device
        cuda = device.type == "cuda"
        self._wanted = tier if tier != "auto" else ("compiled" if triton_works(device) else "graphs" if cuda else "eager")
        self._graphs = cuda and self._wanted != "eager"
        self._graphed: OrderedDict[Any, GraphedStep] = OrderedDict()
        self._compiled: nn.Module | None = None
        self._cache = cache
        self._refused: str | None = None
        self.compilations = 0

    @property
    def tier(self) -> str:
        """What serves now."""
        base = "compiled" if self._compiled is not None else "eager"
        return f"{base} in CUDA graphs" if self._graphs else base

    def compile(self, args: tuple, kwargs: Mapping[str, Any], copy: Callable[[], nn.Module], *, dynamic: bool | None = True) -> None:
        """Compiles for calls like this one, and proves the result against the module as it is; a wrong or failed one leaves the plain module serving."""
        if self._wanted != "compiled" or self._refused is not None:
            return
        expected = self._plain(args, kwargs)
        module = copy()
        blocks = tuple(getattr(type(module), "_repeated_blocks", None) or ())
        try:
            warm = self._cache.load()
            if blocks:
                compile_blocks(module, blocks, dynamic=dynamic)
            else:
                module.compile(dynamic=dynamic)
            with torch.no_grad():
                got = module(*args, **kwargs)
            error = max(_errors(got, expected), default=0.0)
            if not error < TOLERANCES.get(_format(expected), 1e-3):
                raise ValueError(f"compiled output differs by {error:.3g}")
        except Exception as error:  # a compiler may fail in any way; the module as it is goes on serving
            self._refused = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"
            log.warning("refit_sidecar: compiling failed (%s); calls stay uncompiled", self._refused)
            return
        self.compilations += 1
        self._compiled = module
        self._graphed.clear()
        if not warm:
            self._cache.save()

    @torch.no_grad()
    def __call__(self, args: tuple, kwargs: Mapping[str, Any]) -> Any:
        if not self._graphs:
            return self._plain(args, kwargs)
        leaves, form = pytree.tree_flatten((args, dict(kwargs)))
        tensors = {str(index): leaf.contiguous() for index, leaf in enumerate(leaves) if isinstance(leaf, Tensor)}
        rest = tuple(None if isinstance(leaf, Tensor) else leaf for leaf in leaves)
        if any(tensor.device != self._device for tensor in tensors.values() if tensor.dim()):
            return self._plain(args, kwargs)
        try:
            key = (form, rest, torch.is_autocast_enabled(self._device.type))
            graphed = self._graphed.get(key)
        except TypeError:  # an argument that cannot be a key cannot be told apart either
            return self._plain(args, kwargs)
        if graphed is None:
            graphed = self._graphed[key] = GraphedStep(_call_of(form, rest), self._device)
            while len(self._graphed) > MAX_SIGNATURES:
                self._graphed.popitem(last=False)[1].release()
        try:
            with steady() if self._compiled is not None else nullcontext():
                output = graphed(self._compiled or self.module, tensors)
        except torch.OutOfMemoryError:
            log.info("refit_sidecar: no memory for a CUDA graph; calls run without")
            self._graphed.clear()
            self._graphs = False
            return self._plain(args, kwargs)
        except RuntimeError as error:
            log.info(
                "refit_sidecar: this module cannot be captured in a CUDA graph (%s); calls run without", str(error).splitlines()[0][:160]
            )
            self._graphed.clear()
            self._graphs = False
            torch.cuda.synchronize(self._device)
            return self._plain(args, kwargs)
        # The next replay writes over the graph's own output.
        return pytree.tree_map(lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf, output)

    def _plain(self, args: tuple, kwargs: Mapping[str, Any]) -> Any:
        with torch.no_grad():
            return (self._compiled or self.module)(*args, **kwargs)

    def release(self) -> None:
        """Gives back what graphs hold."""
        for graphed in self._graphed.values():
            graphed.release()
        self._graphed.clear()


def _call_of(form: Any, rest: tuple[Any, ...]) -> Callable[[nn.Module, Mapping[str, Tensor]], Any]:
    def forward(module: nn.Module, tensors: Mapping[str, Tensor]) -> Any:
        args, kwargs = pytree.tree_unflatten([tensors.get(str(index), leaf) for index, leaf in enumerate(rest)], form)
        return module(*args, **kwargs)

    return forward


def _tensors(value: Any) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, Tensor)]


def _format(value: Any) -> torch.dtype:
    return next((each.dtype for each in _tensors(value)), torch.float32)


def _errors(got: Any, expected: Any) -> list[float]:
    return [
        relative_error(one, other) if other.abs().max() > 0 else float(one.abs().max())
        for one, other in zip(_tensors(got), _tensors(expected))
    ]


def difference(got: Any, expected: Any) -> float:
    """The largest relative error of any tensor in two outputs; infinite when their forms differ."""
    one, other = _tensors(got), _tensors(expected)
    if len(one) != len(other) or any(a.shape != b.shape for a, b in zip(one, other)):
        return float("inf")
    return max(_errors(got, expected), default=0.0)
