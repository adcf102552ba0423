"""A second module over an engine's weights. In: a module, with or without PEFT's layers. Out: a module of the same structure without them, whose
parameters are the engine's. Never: a copy of a weight, a change of the module.
"""

from __future__ import annotations

import copy
from typing import Callable

from torch import Tensor, nn

from .peft_layers import is_tuner
from .snapshot import NotServed, Snapshot

# What a copy must not take along: links back to the original and what only watches it.
_LEFT_OUT = (
    "_refit",
    "_hf_hook",
    "_old_forward",
    "forward",
    "peft_config",
    "_hf_peft_config_loaded",
    "_diffusers_hook",
    "_compiled_call_impl",
)


def engine_module(root: nn.Module, original_class: type, snapshot: Snapshot, parameter_of: Callable[[str], Tensor]) -> nn.Module:
    """`parameter_of`: the engine's memory of a parameter or buffer. Raises NotServed when the module holds something that cannot be copied."""
    memo: dict[int, object] = {}
    for name, tensor in snapshot.tensors.items():
        value = parameter_of(name)
        memo[id(tensor)] = nn.Parameter(value, requires_grad=False) if name in snapshot.parameters else value
    for tensor in snapshot.factors:
        memo[id(tensor)] = tensor
    held = {key: root.__dict__.pop(key) for key in _LEFT_OUT if key in root.__dict__}
    own_class = root.__class__
    try:
        # A copy of the derived class would build another engine.
        root.__class__ = original_class
        copied = copy.deepcopy(root, memo)
    except Exception as error:  # any attribute of a user's module may refuse to be copied, in any way
        raise NotServed(f"the module cannot be copied ({type(error).__name__}: {str(error)[:120]})") from error
    finally:
        root.__class__ = own_class
        root.__dict__.update(held)
    _unwrap(copied)
    for module in copied.modules():
        for hooks in (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks):
            hooks.clear()
    return copied.eval().requires_grad_(False)


def _unwrap(module: nn.Module) -> None:
    for key, child in list(module._modules.items()):
        if child is not None and is_tuner(child):
            module._modules[key] = child = child.get_base_layer()
        if child is not None:
            _unwrap(child)
