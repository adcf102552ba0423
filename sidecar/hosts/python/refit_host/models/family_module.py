"""The module of this folder that carries a family's name: what its description (protocol/families) cannot say, a step of it among that."""

from __future__ import annotations

from functools import partial
from importlib import import_module
from importlib.util import find_spec
from types import MethodType, ModuleType
from typing import Callable, Mapping

from torch import Tensor, nn

from ..fused import use_fused_blocks
from .spec import Fuse

Forward = Callable[[nn.Module, Mapping[str, Tensor]], Tensor]


def module_of(family: str) -> ModuleType | None:
    """None when the description says all."""
    name = family.replace("-", "_").replace(".", "_")
    return import_module(f".{name}", __package__) if find_spec(f".{name}", __package__) else None


def stepping(module: nn.Module, forward: Forward) -> nn.Module:
    """Makes a family's step the module's own call, so that hooks on the whole module (weights that stream, or that are lent for a call) see it."""
    module.forward = MethodType(forward, module)
    return module


def step(module: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
    """A step of a module that `stepping` gave."""
    return module(inputs)


def fuse_of(family: ModuleType | None) -> Fuse | None:
    """Gives a module the fused blocks of its family, where there are any: `FUSED` names their file in refit_host/fused."""
    file = getattr(family, "FUSED", None)
    return None if file is None else partial(use_fused_blocks, file)
