"""Which model classes of a UI an engine serves, and how their calls feed its inputs. In: the families' descriptions. Out: `FamilyCall`s."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from .checked.families import read_families


class WordsCall(NamedTuple):
    method: str
    #: In the order in which the UI gives them.
    arguments: tuple[str, ...]
    #: Argument -> engine input.
    inputs: Mapping[str, str | tuple[str, ...]]
    #: Arguments that say nothing that an engine does not know.
    ignored: frozenset[str]
    #: As those of a step.
    settings: Mapping[str, str | tuple[str, str]]
    #: Without this argument ("": always), what is as wide as this input of a step is its words already.
    unless: tuple[str, str] | None


class FamilyCall(NamedTuple):
    family: str
    title: str
    #: UI ("comfyui", "forge") -> names of its model classes.
    classes: Mapping[str, tuple[str, ...]]
    #: Arguments in the order in which the UI gives them.
    arguments: tuple[str, ...]
    #: Argument -> engine input; several for an argument that is a list of tensors of different kinds.
    inputs: Mapping[str, str | tuple[str, ...]]
    #: Engine inputs that are the same over a run.
    once_per_run: frozenset[str]
    #: Arguments that say nothing that an engine does not know.
    ignored: frozenset[str]
    #: Engine inputs that not every structure of the family has; without it, the UI's own model does not look at the argument.
    conditional: frozenset[str]
    #: Engine inputs that a call may leave out.
    optional: frozenset[str]
    #: Engine inputs that take a list: at most so many tensors, as name_0, name_1, ...
    many: Mapping[str, int]
    #: Argument of one number a batch entry -> the input for numbers of parts of the sample.
    finer: Mapping[str, str | tuple[str, ...]]
    #: Value in the configuration that the UI read off a file -> engine input; with a word: 1 where the value is that word.
    settings: Mapping[str, str | tuple[str, str]]
    #: Value in the call's own options -> engine input.
    options: Mapping[str, str]
    #: Part of a ControlNet's answer -> (engine input, key of the UI's configuration under which the number of blocks stands, input of the last block or "").
    controls: Mapping[str, tuple[str, str, str]]
    #: Engine inputs for the places of guides, for the cells that the model sees, and for weights between guides and video.
    guides: tuple[str, str, str] | None
    #: Argument -> (key of the UI's configuration, word where that has none) with which it asks for what the model does anyway.
    usual: Mapping[str, tuple[str, str]]
    #: Argument -> the number by which the UI's class multiplies it in its own float type.
    scaled: Mapping[str, float]
    #: Height and width of the sample are filled up to a multiple of it, from the start.
    patch: int
    #: The method of the UI's model that makes a run's words.
    words: WordsCall | None
    #: Dotted name of a web UI's class -> the UI -> the parameters of its forward as they were read in its source.
    recorded: Mapping[str, Mapping[str, Sequence[str]]]


@lru_cache(maxsize=1)
def family_calls() -> tuple[FamilyCall, ...]:
    """Every call of every family."""
    here = Path(__file__).resolve()
    families = read_families(here.parent, here.parents[2]).values()
    return tuple(_family_call(family, call) for family in families for call in family.get("calls", ()))


def call_of(ui: str, class_name: str) -> FamilyCall | None:
    """The call of a UI's model class; None when no engine serves it. Families of one class have one call."""
    return next((call for call in family_calls() if class_name in call.classes.get(ui, ())), None)


def _family_call(family: Mapping[str, Any], call: Mapping[str, Any]) -> FamilyCall:
    words, guides = call.get("words"), call.get("guides")
    tables = [part.get(key, {}) for part in (call, words or {}) for key in ("inputs", "finer", "settings", "options", "controls")]
    names = {name for table in tables for value in table.values() for name in _named(value)} | {*(guides or {}).values()}
    fed = [one for one in family.get("inputs", ()) if one["name"] in names]
    return FamilyCall(
        family=family["family"],
        title=family["title"],
        classes=_fixed(call["classes"]),
        arguments=tuple(call["arguments"]),
        inputs=_fixed(call["inputs"]),
        once_per_run=frozenset(one["name"] for one in fed if one["each"] == "run"),
        ignored=frozenset(call.get("ignored", ())),
        conditional=frozenset(one["name"] for one in fed if "when" in one),
        optional=frozenset(one["name"] for one in fed if one.get("optional")),
        many={one["name"]: one["many"] for one in fed if "many" in one},
        finer=_fixed(call.get("finer", {})),
        settings=_settings(call),
        options=call.get("options", {}),
        controls={part: (to["input"], to["blocks"], to.get("last", "")) for part, to in call.get("controls", {}).items()},
        guides=None if guides is None else (guides["places"], guides["kept"], guides["weights"]),
        usual={argument: (what.get("setting", ""), what["value"]) for argument, what in call.get("usual", {}).items()},
        scaled={argument: float(factor) for argument, factor in call.get("scaled", {}).items()},
        patch=call.get("patch", 1),
        words=None if words is None else _words_call(words),
        recorded=call.get("recorded", {}),
    )


def _words_call(words: Mapping[str, Any]) -> WordsCall:
    unless = words.get("unless")
    return WordsCall(
        method=words["method"],
        arguments=tuple(words["arguments"]),
        inputs=_fixed(words["inputs"]),
        ignored=frozenset(words.get("ignored", ())),
        settings=_settings(words),
        unless=None if unless is None else (unless.get("argument", ""), unless["as"]),
    )


def _named(value: Any) -> Iterator[str]:
    """Engine inputs that an entry feeds."""
    for one in value if isinstance(value, list) else [value]:
        if not isinstance(one, dict):
            yield one
        else:
            yield from (one[key] for key in ("input", "last") if key in one)


def _fixed(table: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in table.items()}


def _settings(call: Mapping[str, Any]) -> dict[str, Any]:
    given = call.get("settings", {}).items()
    return {name: to if isinstance(to, str) else (to["input"], to["is"]) for name, to in given}
