"""Names and parameters of a UI's source, looked up without importing it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path


class Source:
    """Of one checkout. `marks`: parameters with what may be left out or goes by name only (see `_parameters`)."""

    def __init__(self, root: Path, marks: bool = True) -> None:
        self._root, self._marks = root, marks
        self._trees: dict[Path, ast.Module] = {}

    def describe(self, dotted: str) -> object | None:
        """Parameters of a function or class, True for another name, None when it is not there."""
        parts = dotted.split(".")
        for length in range(len(parts), 0, -1):
            tree = self._module(parts[:length])
            if tree is not None:
                return True if length == len(parts) else self._inside(tree, parts[length:])
        return None

    def attributes(self, dotted: str) -> set[str]:
        """Names that a class sets on itself or defines."""
        found = self._class(dotted)
        names = {
            node.attr
            for node in ast.walk(found)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"
        }
        return names | {node.name for node in found.body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))}

    def method(self, dotted: str, name: str) -> list[str] | None:
        for node in self._class(dotted).body:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name == name:
                return self._described(node)
        return None

    def _described(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
        found = _parameters(node)
        return found if self._marks else [name.strip("!=") for name in found]

    def _class(self, dotted: str) -> ast.ClassDef:
        module, name = dotted.rsplit(".", 1)
        tree = self._module(module.split("."))
        found = next((node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name), None) if tree else None
        if found is None:
            raise AssertionError(f"{dotted} is not there")
        return found

    def _module(self, parts: list[str]) -> ast.Module | None:
        for path in (self._root.joinpath(*parts).with_suffix(".py"), self._root.joinpath(*parts, "__init__.py")):
            if path.is_file():
                if path not in self._trees:
                    self._trees[path] = ast.parse(path.read_text("utf-8"))
                return self._trees[path]
        return None

    def _inside(self, tree: ast.Module, names: list[str]) -> object | None:
        for node in _statements(tree.body):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name == names[0]:
                return self._described(node)
            if isinstance(node, ast.ClassDef) and node.name == names[0]:
                init = next((one for one in node.body if isinstance(one, ast.FunctionDef) and one.name == "__init__"), None)
                return self._described(init) if init and len(names) == 1 else True
            targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
            if any(isinstance(target, ast.Name) and target.id == names[0] for target in targets):
                return True
            if isinstance(node, ast.ImportFrom) and any((alias.asname or alias.name) == names[0] for alias in node.names):
                return True
        return None


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Top-level statements, those inside try and if included."""
    for node in body:
        yield node
        for part in ("body", "orelse", "handlers", "finalbody"):
            if isinstance(node, (ast.If, ast.Try)):
                for inner in getattr(node, part, []):
                    yield from _statements(inner.body if isinstance(inner, ast.ExceptHandler) else [inner])


def _parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    """Names in order; "=" at the end of one that may be left out, "!" before one that goes by its name only."""
    arguments = node.args
    plain = [*arguments.posonlyargs, *arguments.args]
    first_default = len(plain) - len(arguments.defaults)
    names = [one.arg + ("=" if index >= first_default else "") for index, one in enumerate(plain)]
    names += [
        f"!{one.arg}" + ("=" if default is not None else "")
        for one, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    ]
    return names + (["*"] if arguments.vararg else []) + (["**"] if arguments.kwarg else [])


def compatible(recorded: object, found: object) -> bool:
    """Every recorded parameter is still there, in the same order; new ones may have come."""
    if not isinstance(recorded, list):
        return found is not None
    if not isinstance(found, list):
        # What another module gives, or what is made by a call, shows no parameters.
        return found is True
    rest = iter(found)
    return all(any(name == other for other in rest) for name in recorded)
