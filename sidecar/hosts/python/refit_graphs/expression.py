"""The expressions of family descriptions (protocol/families), over shapes. The grammar is a subset of Python's, so Python's own parser reads it.

A size that is not there is None: it makes sums and products None, orders False, and equals nothing, as in sidecar/src/terms/families/expression.ts.
Nothing is executed: only the node types below are understood, and every other one is refused. Standard library only.
"""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any

Shapes = Mapping[str, tuple[int, ...]]
Value = Any


class ExpressionError(ValueError):
    """Not an expression of a family description."""


@lru_cache(maxsize=None)
def pattern_of(text: str) -> re.Pattern[str]:
    """A name with places: `{n}` stands for a number, `{*}` for any run of characters."""
    places = {"{n}": r"(\d+)", "{*}": "(.*)"}
    return re.compile("".join(places.get(piece) or re.escape(piece) for piece in re.split(r"(\{n\}|\{\*\})", text)), re.DOTALL)


def find_name(names: Iterable[str], text: str) -> str | None:
    """The first of `names` that fits; None when none does. `names` answers `in` quickly (a dict or a set)."""
    if "{" not in text:
        return text if text in names else None
    pattern = pattern_of(text)
    return next((name for name in names if pattern.fullmatch(name)), None)


def count_indices(names: Iterable[str], prefix: str) -> int:
    """One more than the largest N of `prefix` + N; 0 when there is none."""
    numbers = (re.match(r"\d+", name[len(prefix) :]) for name in names if name.startswith(prefix))
    return max((int(number[0]) + 1 for number in numbers if number), default=0)


def _where(shapes: Shapes, text: str) -> list[int]:
    matches = (pattern_of(text).fullmatch(name) for name in shapes)
    return sorted({int(match[1]) for match in matches if match})


def _rank(shapes: Shapes, text: str) -> int | None:
    name = find_name(shapes, text)
    return None if name is None else len(shapes[name])


def _numeric(change: Callable[..., Value]) -> Callable[..., Value]:
    return lambda _shapes, *values: None if any(value is None for value in values) else change(*values)


# JavaScript's Math.round, which the other language has: halves go up.
FUNCTIONS: Mapping[str, Callable[..., Value]] = {
    "has": lambda shapes, text: find_name(shapes, text) is not None,
    "count": count_indices,
    "where": _where,
    "rank": _rank,
    "first": lambda _shapes, *values: next((value for value in values if value is not None), None),
    "length": _numeric(len),
    "sqrt": _numeric(math.sqrt),
    "round": _numeric(lambda value: math.floor(value + 0.5)),
    "min": _numeric(min),
    "max": _numeric(max),
}
OPERATORS: Mapping[type, Callable[[Value, Value], Value]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: lambda a, b: _whole(a / b),
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
ORDERS: Mapping[type, Callable[[Value, Value], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


def _whole(value: float) -> float | int:
    return int(value) if value == int(value) else value


@lru_cache(maxsize=None)
def _parsed(text: str) -> ast.expr:
    try:
        return ast.parse(text.strip(), mode="eval").body
    except SyntaxError as error:
        raise ExpressionError(f"expected an expression of a family description, got {text!r}: {error.msg}") from error


def evaluate(text: str, shapes: Shapes, named: Callable[[str], Value]) -> Value:
    """Raises ExpressionError for text outside of the grammar."""

    def run(node: ast.expr) -> Value:
        match node:
            case ast.Constant(value=int() | float() | str() as value):
                return value
            case ast.Name(id=name):
                return named(name)
            case ast.BoolOp(op=ast.And(), values=values):
                return all(run(value) for value in values)
            case ast.BoolOp(op=ast.Or(), values=values):
                return any(run(value) for value in values)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return not run(operand)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                value = run(operand)
                return None if value is None else -value
            case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
                a, b = run(left), run(right)
                return None if a is None or b is None else OPERATORS[type(op)](a, b)
            case ast.Compare(left=left, ops=[op], comparators=[right]):
                return _compare(op, run(left), run(right))
            case ast.Subscript(value=value, slice=axis):
                name, index = find_name(shapes, run(value)), run(axis)
                return None if name is None or not 0 <= index < len(shapes[name]) else shapes[name][index]
            case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in FUNCTIONS:
                return FUNCTIONS[name](shapes, *[run(arg) for arg in args])
        raise ExpressionError(f"expected an expression of a family description, got {text!r}")

    return run(_parsed(text))


def _compare(op: ast.cmpop, a: Value, b: Value) -> bool:
    if isinstance(op, (ast.Eq, ast.NotEq)):
        return (a is not None and b is not None and a == b) == isinstance(op, ast.Eq)
    if type(op) not in ORDERS:
        raise ExpressionError("expected one of == != < <= > >= in an expression of a family description")
    return a is not None and b is not None and ORDERS[type(op)](a, b)


def fill_template(text: str, shapes: Shapes, named: Callable[[str], Value]) -> str:
    """Text with `{expression}` in places."""
    return re.sub(r"\{([^{}]+)\}", lambda match: str(evaluate(match[1], shapes, named)), text)
