"""The generated checks refuse what the schema refuses, by field, and take what the sidecar sends."""

from __future__ import annotations

import copy

import pytest
from refit_host.failure import HostFailure
from refit_host.wire.protocol import CHECKS, ERRORS

HASH = "a" * 64
PLAN = {
    "from": None,
    "to": {"checkpoint": "c", "stack": [{"sha256": HASH, "strength": 1}]},
    "full": True,
    "writes": [{"parameter": "p", "reason": "touched"}],
}
PREPARE = {
    "engine": "e",
    "generation": 3,
    "plan": PLAN,
    "checkpoint": None,
    "stack": [{"delta": "/d", "sha256": HASH, "strength": -0.5}],
    "verify": True,
    "adapterLoss": 0.5,
}


def changed(path: str, value: object) -> dict:
    out = copy.deepcopy(PREPARE)
    at: object = out
    *way, last = [int(step) if step.isdigit() else step for step in path.split(".")]
    for step in way:
        at = at[step]
    at[last] = value
    return out


def test_a_right_call_is_taken():
    CHECKS["prepare"](PREPARE, "prepare")
    CHECKS["status"]({}, "status")
    CHECKS["cancel"]({"id": -4}, "cancel")


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        ("engine", "", "prepare.engine"),
        ("engine", "x" * 201, "prepare.engine"),
        ("generation", True, "prepare.generation"),
        ("generation", -1, "prepare.generation"),
        ("generation", 2**53, "prepare.generation"),
        ("plan", [], "prepare.plan"),
        ("plan.from", {}, "prepare.plan.from.checkpoint"),
        ("plan.full", 1, "prepare.plan.full"),
        ("plan.to.stack.0.sha256", HASH.upper(), "prepare.plan.to.stack.sha256"),
        ("plan.to.stack.0.strength", float("nan"), "prepare.plan.to.stack.strength"),
        ("plan.writes.0.reason", "because", "prepare.plan.writes.reason"),
        ("plan.writes.0.parameter", None, "prepare.plan.writes.parameter"),
        ("stack.0.strength", 10**400, "prepare.stack.strength"),
        ("stack.0.strength", "1", "prepare.stack.strength"),
        ("stack.0.delta", "", "prepare.stack.delta"),
        ("stack", {}, "prepare.stack"),
        ("adapterLoss", 1.5, "prepare.adapterLoss"),
        ("checkpoint", {"files": [{"path": "/f", "sizeBytes": 1, "mtimeNs": "1", "inode": "1\n"}], "parameters": {}}, "prepare.checkpoint.files.inode"),
        ("checkpoint", {"files": [], "parameters": {"p": {"shape": [1] * 9, "pieces": []}}}, "prepare.checkpoint.parameters.p.shape"),
    ],
)  # fmt: skip
def test_a_wrong_field_is_named(path, value, field):
    with pytest.raises(HostFailure) as failure:
        CHECKS["prepare"](changed(path, value), "prepare")
    assert (failure.value.code, failure.value.evidence["field"]) == ("HOST_INVALID_PARAMS", field)


def test_a_field_that_is_missing_is_named():
    for field in PREPARE.keys() - {"verify", "adapterLoss"}:
        with pytest.raises(HostFailure) as failure:
            CHECKS["prepare"]({key: value for key, value in PREPARE.items() if key != field}, "prepare")
        assert failure.value.evidence["field"].startswith(f"prepare.{field}")


def test_every_error_has_a_number_of_its_own():
    assert len(set(ERRORS.values())) == len(ERRORS)
