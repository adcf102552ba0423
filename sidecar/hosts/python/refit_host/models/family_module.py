"""The module of this folder that carries a family's name: what its description (protocol/families) cannot say."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from types import ModuleType


def module_of(family: str) -> ModuleType | None:
    """None when the description says all."""
    name = family.replace("-", "_").replace(".", "_")
    return import_module(f".{name}", __package__) if find_spec(f".{name}", __package__) else None
