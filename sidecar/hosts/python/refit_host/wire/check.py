"""Checked access to JSON values. A wrong shape is HOST_INVALID_PARAMS naming the field, never a KeyError."""

from __future__ import annotations

import math
from typing import Any, Mapping

from ..failure import HostFailure


def _wrong(where: str, expected: str, value: Any) -> HostFailure:
    return HostFailure("HOST_INVALID_PARAMS", f"{where}: expected {expected}, received {type(value).__name__}", {"field": where})


def obj(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _wrong(where, "an object", value)
    return value


def arr(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise _wrong(where, "a list", value)
    return value


def text(source: Mapping[str, Any], key: str) -> str:
    value = source.get(key)
    if not isinstance(value, str):
        raise _wrong(key, "text", value)
    return value


def text_or_none(source: Mapping[str, Any], key: str) -> str | None:
    return None if source.get(key) is None else text(source, key)


def whole(source: Mapping[str, Any], key: str) -> int:
    value = source.get(key)
    if type(value) is not int or not 0 <= value < 1 << 53:
        raise _wrong(key, "a whole number", value)
    return value


def number(source: Mapping[str, Any], key: str) -> float:
    value = source.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise _wrong(key, "a finite number", value)
    return float(value)


def flag(source: Mapping[str, Any], key: str) -> bool:
    value = source.get(key, False)
    if not isinstance(value, bool):
        raise _wrong(key, "true or false", value)
    return value


def shape(value: Any, where: str) -> tuple[int, ...]:
    dims = arr(value, where)
    if len(dims) > 8 or not all(type(d) is int and 0 <= d < 1 << 40 for d in dims):
        raise _wrong(where, "at most 8 whole dimensions", value)
    return tuple(dims)
