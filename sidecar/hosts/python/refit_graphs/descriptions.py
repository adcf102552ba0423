"""Family descriptions (protocol/families) beside the shapes of one model. Standard library only.

In: canonical shapes. Out: does the family fit, named sizes, the step's inputs, and where diffusers keeps each parameter. Format: docs/develop/adding-a-family.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from refit_host.checked.families import read_families

from .errors import UnsupportedStructure
from .expression import Shapes, Value, evaluate, fill_template, find_name, pattern_of


@lru_cache(maxsize=1)
def descriptions() -> Mapping[str, Mapping[str, Any]]:
    """Every description by its family's name."""
    here = Path(__file__).resolve()
    return read_families(here.parent, here.parents[4])


def typical(family: str, name: str) -> float | None:
    """A number as a run brings it for an input of a family; None where the description names none."""
    rows = descriptions()[family].get("inputs", ())
    return next((row["typical"] for row in rows if row["name"] == name and "typical" in row), None)


def for_torch_alone(description: Mapping[str, Any]) -> bool:
    return "torch" in description.get("hosts", ())


@dataclass(frozen=True)
class Place:
    """Where diffusers keeps a parameter or rows of it. `name`: the whole name in diffusers' state dict; `swap`: its halves stand in the other order."""

    name: str
    start: int | None = None
    length: int | None = None
    swap: bool = False


@dataclass(frozen=True)
class StepInput:
    """One tensor that a step brings. `axes`: a name for a size that changes, a number for one that the structure fixes."""

    name: str
    axes: tuple[str | int, ...]
    float_type: bool
    once_per_run: bool
    optional: bool = False
    #: Belongs to this other call of the model, not to a step.
    call: str | None = None


class Described:
    """One family's description over one model's shapes (canonical names)."""

    def __init__(self, family: str, shapes: Shapes) -> None:
        self.family = family
        self.shapes = shapes
        self._description = descriptions()[family]
        self._known: dict[str, Value] = {}
        self._places: dict[str, list[Place]] | None = None

    def __getitem__(self, name: str) -> Value:
        """A named dimension; None when the shapes do not tell it."""
        if name not in self._known:
            self._known[name] = None
            self._known[name] = evaluate(self._description["dimensions"][name], self.shapes, self.__getitem__)
        return self._known[name]

    @property
    def for_torch_alone(self) -> bool:
        """Whether the torch host alone serves this structure, without a graph."""
        when = self._description.get("hostsWhen")
        return for_torch_alone(self._description) and (when is None or bool(self.value(when)))

    def value(self, text: str, **given: Value) -> Value:
        """An expression over the shapes, the named dimensions and `given`."""
        return evaluate(text, self.shapes, lambda name: given[name] if name in given else self[name])

    def size(self, name: str) -> int:
        """A named dimension that the family cannot be without. Raises UnsupportedStructure."""
        value = self[name]
        if value is None:
            raise UnsupportedStructure(f"expected a {self._description['title']} header, without {name}: this structure is not supported")
        return int(value)

    def named_like(self) -> bool:
        """Whether the names are those of the family's checkpoints, whatever the shapes."""
        checkpoint = self._description.get("checkpoint")
        if checkpoint is None or any(find_name(self.shapes, name) is None for name in checkpoint["requires"]):
            return False
        return all(find_name(self.shapes, name) is None for name in checkpoint.get("forbids", ()))

    def matches(self) -> bool:
        condition = self._description.get("checkpoint", {}).get("where")
        return self.named_like() and (condition is None or bool(self.value(condition)))

    def inputs(self) -> tuple[StepInput, ...]:
        """The inputs that this structure has, in the order of the description. Of a list each member is one, with sizes of its own."""
        rows = (row for row in self._description["inputs"] if "when" not in row or self.value(row["when"]))
        return tuple(one for row in rows for one in self._inputs_of(row))

    def _inputs_of(self, row: Mapping[str, Any]) -> Iterator[StepInput]:
        axes = tuple(map(self._axis, row["axes"]))
        for member in ("",) if "many" not in row else [f"_{number}" for number in range(row["many"])]:
            own = tuple(axis if isinstance(axis, int) else axis + member for axis in axes)
            yield StepInput(
                row["name"] + member, own, row["dtype"] == "float", row["each"] == "run", row.get("optional", False), row.get("call")
            )

    def output(self) -> tuple[str | int, ...] | None:
        """Axes of a step's output; None: those of the sample."""
        when = self._description.get("outputWhen")
        own = "output" in self._description and (when is None or bool(self.value(when)))
        return tuple(map(self._axis, self._description["output"])) if own else None

    def _axis(self, axis: str) -> str | int:
        if not axis.startswith("{"):
            return axis
        value = self.value(axis[1:-1])
        if value is None or value != int(value):
            raise UnsupportedStructure(
                f"expected a {self._description['title']} header, without {axis[1:-1]}: this structure is not supported"
            )
        return int(value)

    def places(self, parameter: str) -> list[Place]:
        """Where diffusers keeps a canonical parameter: one place, or one for each part of a fused one. Raises UnsupportedStructure for an unknown name."""
        if "names" not in self._description:
            # diffusers has the checkpoint's own names.
            return [Place(parameter)]
        if self._places is None:
            self._places = self._all_places()
        found = self._places.get(parameter)
        if found is None:
            title = self._description["title"]
            raise UnsupportedStructure(f"expected a parameter of {title}, got {parameter!r}: this structure is not supported")
        return found

    def _all_places(self) -> dict[str, list[Place]]:
        places: dict[str, list[Place]] = {}
        for group in self._description.get("names", ()):
            for n in range(int(self[group["blocks"]] or 0)) if "blocks" in group else (None,):
                for row in group["rows"]:
                    for parameter, found in self._row(
                        row, group.get("native", ""), group.get("diffusers", ""), {} if n is None else {"n": n}
                    ):
                        places.setdefault(parameter, []).extend(found)
        return places

    def _row(self, row: Any, native: str, diffusers: str, given: Mapping[str, int]) -> Iterator[tuple[str, list[Place]]]:
        if isinstance(row, list):
            row = {"native": row[0], "diffusers": row[1]}
        if row.get("only") == "adapters" or ("when" in row and not self.value(row["when"], **given)):
            return
        swap = row.get("swap") is True or (isinstance(row.get("swap"), str) and bool(self.value(row["swap"], **given)))
        fill = lambda text: fill_template(text, self.shapes, lambda name: given[name] if name in given else self[name])  # noqa: E731
        stem = fill(native + row["native"])
        kinds = (("", ""),) if row.get("bare") else ((row.get("suffix", ".weight"), ".weight"), (".bias", ".bias"))
        for own, theirs in kinds:
            if stem + own not in self.shapes:
                continue
            if "parts" not in row:
                yield stem + own, [Place(fill(diffusers + row["diffusers"] + theirs), swap=swap)]
                continue
            found, start = [], 0
            for name, rows in row["parts"]:
                length = int(self.value(rows, **given) or 0)
                found.append(Place(fill(diffusers + name + theirs), start, length, swap))
                start += length
            yield stem + own, found


def renamed(family: str, name: str) -> str:
    """The canonical name of a parameter that a file of this family may call otherwise."""
    for source, target, *_ in descriptions()[family].get("checkpoint", {}).get("renames", ()):
        if match := pattern_of(source).fullmatch(name):
            return _filled(target, match.groups())
    return name


def _filled(text: str, groups: Iterable[str]) -> str:
    found = iter(groups)
    return re.sub(r"\{n\}|\{\*\}", lambda _: next(found), text)


def canonical_names(names: Iterable[str]) -> dict[str, str]:
    """Stored name -> canonical name, by the renames of the family that the names then fit."""
    stored = list(names)
    for one in _in_order():
        if "renames" in one["checkpoint"]:
            made = {name: renamed(one["family"], name) for name in stored}
            if Described(one["family"], dict.fromkeys(made.values(), ())).named_like():
                return made
    return {name: name for name in stored}


def _in_order() -> list[Mapping[str, Any]]:
    return sorted((one for one in descriptions().values() if "checkpoint" in one), key=lambda one: one["checkpoint"]["order"])


def family_of(shapes: Shapes) -> Described | None:
    """The described family that canonical shapes are of, in the order of the descriptions; None for UNets and everything unknown."""
    return next((found for one in _in_order() if (found := Described(one["family"], shapes)).matches()), None)
