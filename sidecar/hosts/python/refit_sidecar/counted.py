"""Objects that count their changes: thousands of them can then be found unchanged by one number. In: modules and PEFT layers. Out: the same objects, whose
dicts of modules, parameters and strengths count, and whose switches do. Never: another content; a copy or a pickle of them is plain.
"""

from __future__ import annotations

import copy
import functools
from typing import Any, Callable

from torch import nn

SWITCHES = ("_active_adapter", "_disable_adapters", "merged_adapters")


class Changes:
    """How many changes there were, anywhere: of `objects` (modules and parameters), of `switches` (PEFT's, and strengths)."""

    objects = 0
    switches = 0


class CountedDict(dict):
    """What modules and parameters a module holds."""

    __slots__ = ()
    _kind = "objects"

    def __deepcopy__(self, memo: dict[int, Any]) -> dict:
        made = memo[id(self)] = {}
        made.update((copy.deepcopy(key, memo), copy.deepcopy(value, memo)) for key, value in self.items())
        return made

    def __reduce_ex__(self, protocol: Any) -> Any:
        return dict, (dict(self),)


class CountedStrengths(CountedDict):
    """PEFT's `scaling` of a layer."""

    __slots__ = ()
    _kind = "switches"


class CountedList(list):
    """PEFT's `merged_adapters` of a layer."""

    __slots__ = ()
    _kind = "switches"

    def __deepcopy__(self, memo: dict[int, Any]) -> list:
        return list(self)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return list, (list(self),)


def _counting(kind: type, name: str) -> Callable[..., Any]:
    plain = getattr(kind, name)

    def changed(self: Any, *args: Any, **kwargs: Any) -> Any:
        setattr(Changes, self._kind, getattr(Changes, self._kind) + 1)
        return plain(self, *args, **kwargs)

    changed.__name__ = name
    return changed


for _name in ("__setitem__", "__delitem__", "__ior__", "clear", "pop", "popitem", "setdefault", "update"):
    setattr(CountedDict, _name, _counting(dict, _name))
for _name in (
    "__setitem__",
    "__delitem__",
    "__iadd__",
    "__imul__",
    "append",
    "clear",
    "extend",
    "insert",
    "pop",
    "remove",
    "reverse",
    "sort",
):
    setattr(CountedList, _name, _counting(list, _name))


@functools.lru_cache(maxsize=256)
def _counting_class(original: type) -> type:
    """A subclass of a PEFT layer's class that counts writes to its switches; in copies and pickles it is the original."""

    def written(self: Any, key: str, value: Any) -> None:
        if key in SWITCHES:
            Changes.switches += 1
        original.__setattr__(self, key, value)  # pyright: ignore[reportCallIssue]  the class is known at run time only

    def removed(self: Any, key: str) -> None:
        if key in SWITCHES:
            Changes.switches += 1
        original.__delattr__(self, key)  # pyright: ignore[reportCallIssue]  as above

    names = {
        "__setattr__": written, "__delattr__": removed, "__reduce_ex__": lambda self, protocol: (_blank, (original,), dict(self.__dict__)),
        "_refit_original_class": original, "__module__": original.__module__, "__qualname__": original.__qualname__, "__doc__": original.__doc__,
    }  # fmt: skip
    return type(original.__name__, (original,), names)


def _blank(kind: type) -> Any:
    return kind.__new__(kind)  # pyright: ignore[reportCallIssue]  as above


def original_class(value: Any) -> type:
    """The class that a user wrote, not one that was derived from it here."""
    return getattr(type(value), "_refit_original_class", type(value))


def counted(holder: Any, key: str, kind: type[CountedDict] = CountedDict) -> CountedDict:
    """The dict `key` of an object, replaced by one that counts if it does not yet."""
    held = holder.__dict__[key]
    if type(held) is not kind:
        held = holder.__dict__[key] = kind(held)
    return held


def count_module(module: nn.Module) -> list[dict]:
    """The dicts in which a module holds modules, parameters and buffers, counted from now on."""
    return [counted(module, key) for key in ("_modules", "_parameters", "_buffers")]


def count_layer(layer: Any) -> list[dict]:
    """The same for a PEFT layer and all its adapters, and for its strengths; without its base layer."""
    dicts = count_module(layer)
    for key, child in layer._modules.items():
        if key != "base_layer" and child is not None:
            for inner in child.modules():
                dicts += count_module(inner)
    if isinstance(layer.__dict__.get("scaling"), dict):
        counted(layer, "scaling", CountedStrengths)
    count_merged(layer)
    if "_refit_original_class" not in type(layer).__dict__:
        layer.__class__ = _counting_class(type(layer))
    return dicts


def count_merged(layer: Any) -> None:
    """PEFT now and then gives a layer another list."""
    held = layer.__dict__.get("merged_adapters")
    if type(held) is list:
        layer.__dict__["merged_adapters"] = CountedList(held)


def uncount(root: nn.Module) -> None:
    """Plain objects again."""
    for module in root.modules():
        for key in ("_modules", "_parameters", "_buffers", "scaling"):
            if isinstance(module.__dict__.get(key), CountedDict):
                module.__dict__[key] = dict(module.__dict__[key])
        if isinstance(module.__dict__.get("merged_adapters"), CountedList):
            module.__dict__["merged_adapters"] = list(module.__dict__["merged_adapters"])
            module.__class__ = original_class(module)
