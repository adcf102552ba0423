"""What the gateway answers on its own channel. No cluster is joined: those tests are in test/sidecar/pipeline/providers/ray.e2e.test.ts."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from refit_ray.gateway import Gateway


class Written:
    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []

    def write(self, channel: int, piece: bytes) -> None:
        assert channel == 0
        self.messages.append(json.loads(piece))


def answer_to(message: dict[str, Any]) -> dict[str, Any]:
    written = Written()

    async def ask() -> None:
        Gateway(written).take(0, json.dumps(message).encode())  # type: ignore[arg-type]
        while not written.messages:
            await asyncio.sleep(0)

    asyncio.run(asyncio.wait_for(ask(), 5))
    (answer,) = written.messages
    return answer


@pytest.mark.parametrize("method", ["adopt", "", None])
def test_a_method_that_it_does_not_have_is_refused_with_those_that_it_has(method):
    answer = answer_to({"jsonrpc": "2.0", "id": 7, "method": method, "params": {}})
    message = f"expected one of join, open, close, renew, got {str(method)!r}; update the older side"
    assert answer == {"jsonrpc": "2.0", "id": 7, "error": {"code": "HOST_GATEWAY", "message": message}}


def test_a_call_without_params_is_refused_by_name():
    error = answer_to({"jsonrpc": "2.0", "id": 8, "method": "renew"})["error"]
    assert error["code"] == "HOST_INVALID_PARAMS" and "renew" in error["message"] and "an object" in error["message"]
