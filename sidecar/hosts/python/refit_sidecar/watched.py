"""Parameters and buffers whose every write can be noticed. In: tensors of a module. Out: the same tensors, with counters. Never: values.

PyTorch counts in-place writes of a tensor in `_version`. Three ways of writing go past that counter and are caught here: `tensor.data` gives an
alias with a counter of its own, fused optimisers count nothing, and swap_tensors exchanges the counters too.
"""

from __future__ import annotations

from typing import Any, Iterable

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

_DATA = torch._C.TensorBase.data
version_of = torch._C.TensorBase._version.__get__
pointer_of = Tensor.data_ptr


class _Epoch:
    """Grows whenever a write happens that no tensor's own counter shows, and whenever a new alias could hide one."""

    value = 0


def epoch() -> int:
    return _Epoch.value


def _alias(tensor: Tensor) -> Tensor:
    """`tensor.data`: one alias per tensor, so that one counter shows what is written through it."""
    held = tensor.__dict__.get("_refit_alias")
    if held is None:
        _Epoch.value += 1
        held = tensor.__dict__["_refit_alias"] = _DATA.__get__(tensor)
    return held


def _assign(tensor: Tensor, value: Tensor) -> None:
    _DATA.__set__(tensor, value)
    tensor.__dict__.pop("_refit_alias", None)
    mark(tensor)


def mark(tensor: Tensor) -> None:
    """Says that `tensor` was written in a way that no counter shows."""
    _Epoch.value += 1
    tensor.__dict__["_refit_writes"] = tensor.__dict__.get("_refit_writes", 0) + 1


class WatchedParameter(nn.Parameter):
    """What a parameter of a RefitModule is: a plain parameter, but for the counters."""

    data = property(_alias, _assign)

    def __deepcopy__(self, memo: dict[int, Any]) -> nn.Parameter:
        if id(self) not in memo:
            memo[id(self)] = nn.Parameter(self.detach().clone(), self.requires_grad)
        return memo[id(self)]

    def __reduce_ex__(self, protocol: Any) -> Any:
        return nn.Parameter(self.detach(), self.requires_grad).__reduce_ex__(protocol)

    def __repr__(self) -> str:
        return super().__repr__().replace(type(self).__name__, "Parameter")


class WatchedBuffer(Tensor):
    """What a buffer of a RefitModule is."""

    __torch_function__ = torch._C._disabled_torch_function_impl
    data = property(_alias, _assign)

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if id(self) not in memo:
            memo[id(self)] = self.detach().clone()
        return memo[id(self)]

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.detach().__reduce_ex__(protocol)


def watch(tensor: Tensor) -> None:
    """Changes the class of a parameter or buffer, once; a tensor of another subclass (a quantised weight) stays as it is."""
    if type(tensor) is nn.Parameter:
        tensor.__class__ = WatchedParameter
    elif type(tensor) is Tensor:
        tensor.__class__ = WatchedBuffer


def watchable(tensor: Tensor) -> bool:
    return type(tensor) in (nn.Parameter, Tensor, WatchedParameter, WatchedBuffer)


def token(tensor: Tensor) -> tuple[int, ...]:
    """Equal tokens of one tensor object mean that its value is the same: memory, shape and every counter."""
    held = tensor.__dict__
    alias = held.get("_refit_alias")
    return (
        pointer_of(tensor),
        version_of(tensor),
        held.get("_refit_writes", 0),
        -1 if alias is None else version_of(alias),
        tensor.dtype,
        *tensor.shape,
    )


def aliases_of(tensors: Iterable[Tensor]) -> list[Tensor]:
    """The aliases that exist now. A new one changes `epoch()`."""
    return [alias for tensor in tensors if (alias := tensor.__dict__.get("_refit_alias")) is not None]


_swap = torch._C._swap_tensor_impl


def _swap_watched(one: Tensor, other: Tensor) -> None:
    """Exchanges what two tensors are, counters included: torch.utils.swap_tensors comes through here."""
    _swap(one, other)
    if any(type(each) in (WatchedParameter, WatchedBuffer) for each in (one, other)):
        # They have exchanged their classes as well.
        for each in (one, other):
            watch(each)
            mark(each)


torch._C._swap_tensor_impl = _swap_watched


def _after_step(optimiser: torch.optim.Optimizer, *_: Any) -> None:
    for group in optimiser.param_groups:
        for parameter in group["params"]:
            if type(parameter) is WatchedParameter:
                mark(parameter)


register_optimizer_step_post_hook(_after_step)
