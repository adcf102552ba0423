"""The generated checks of the gateway's params agree with the schemas (test/protocol/gateway.test.ts), case by case."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from refit_host.failure import HostFailure
from refit_ray.protocol import CHECKS

CASES = json.loads((Path(__file__).resolve().parents[4] / "test/protocol/golden/gateway.json").read_text())


@pytest.mark.parametrize("case", CASES, ids=[case["case"] for case in CASES])
def test_params_are_taken_or_refused_by_field(case):
    method, field = case["method"], case["field"]
    if field is None:
        CHECKS[method](case["params"], method)
        return
    with pytest.raises(HostFailure) as refused:
        CHECKS[method](case["params"], method)
    named = [method, field] if field else [method]
    assert refused.value.code == "HOST_INVALID_PARAMS" and refused.value.evidence["field"].split(".")[: len(named)] == named
