"""The generated messages agree with the golden ones that the TypeScript side checks too."""

import json
import types
import typing
from pathlib import Path

import pytest
from refit_sidecar_plugin import messages

GOLDEN = json.loads((Path(__file__).resolve().parents[3] / "protocol/golden/messages.json").read_text("utf-8"))


def type_name(case):
    words = (case.get("method") or case["notification"]).split(".")
    suffix = "Notification" if "notification" in case else case["part"].capitalize()
    return "".join(word[0].upper() + word[1:] for word in words) + suffix


def fits(value, hint):
    """Structure only: bounds and patterns are the sidecar's to check."""
    origin = typing.get_origin(hint)
    if origin is typing.Literal:
        return value in typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, choice) for choice in typing.get_args(hint))
    if origin is list:
        return isinstance(value, list) and all(fits(item, typing.get_args(hint)[0]) for item in value)
    if origin is dict:
        return isinstance(value, dict) and all(fits(item, typing.get_args(hint)[1]) for item in value.values())
    if typing.is_typeddict(hint):
        fields = typing.get_type_hints(hint)
        return (
            isinstance(value, dict)
            and hint.__required_keys__ <= value.keys() <= fields.keys()
            and all(fits(value[key], fields[key]) for key in value)
        )
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


@pytest.mark.parametrize("case", [case for case in GOLDEN if case["valid"]], ids=lambda case: case["case"])
def test_a_valid_golden_message_fits_its_type(case):
    assert fits(case["value"], getattr(messages, type_name(case)))


#: What a type can't say: bounds, patterns, order. The sidecar refuses these by value.
BY_VALUE = {
    "hello without a version", "catalog page of zero", "catalog entries by an empty id", "one entry by a short hash",
    "prepare with an endless strength", "prepare with min above max", "no conditioning", "restart a device without a name",
}  # fmt: skip


@pytest.mark.parametrize("case", [case for case in GOLDEN if not case["valid"]], ids=lambda case: case["case"])
def test_an_invalid_golden_message_does_not_fit(case):
    assert fits(case["value"], getattr(messages, type_name(case))) == (case["case"] in BY_VALUE)


def test_every_method_has_its_types():
    for method in messages.METHODS:
        for part in ("params", "result"):
            assert hasattr(messages, type_name({"method": method, "part": part}))


def test_local_and_wire_codes_are_disjoint():
    from refit_sidecar_plugin.client import CLIENT_ERRORS

    assert not CLIENT_ERRORS.keys() & messages.ERRORS.keys()
    assert all(code.startswith("CLIENT_") for code in CLIENT_ERRORS)
