# Generated from protocol/src/host/gateway.ts by `npm run generate`; do not edit.
# ruff: noqa: E501
"""The gateway's calls, answers and notifications, and checks of params. A check raises HOST_INVALID_PARAMS that names the field."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, TypedDict

from refit_host.wire.protocol import LARGEST, wrong

PROTOCOL_VERSION = 1


class CloseParams(TypedDict):
    channel: int


class CloseResult(TypedDict):
    pass


class Place(TypedDict):
    name: str
    node: str | None
    problem: str | None


class DevicesNotification(TypedDict):
    devices: list[Place]


class EndedNotification(TypedDict):
    channel: int
    reason: str


class FiguresNotification(TypedDict):
    steps: int
    p50Ms: float | None
    p99Ms: float | None


class JoinParams(TypedDict):
    protocolVersion: int
    address: str
    actors: int
    gpus: float
    cpus: float
    files: Literal["auto", "shared", "store"]
    adapters: str | None
    inbox: str | None


class JoinResult(TypedDict):
    version: str
    devices: list[Place]


class LeftNotification(TypedDict):
    reason: str


class LineNotification(TypedDict):
    channel: int
    text: str


class OpenParams(TypedDict):
    channel: int
    device: str
    command: list[str]
    env: dict[str, str]


class OpenResult(TypedDict):
    pid: int
    node: str


class RenewParams(TypedDict):
    device: str


class RenewResult(TypedDict):
    pass


def _join_params(value: Any, where: str) -> None:
    if type(value) is not dict:
        raise wrong(f"{where}", "an object", value)
    value0 = value.get("protocolVersion")
    if type(value0) is not int or not -9007199254740991 <= value0 <= 9007199254740991:
        raise wrong(f"{where}.protocolVersion", "a whole number", value0)
    value0 = value.get("address")
    if type(value0) is not str or len(value0) < 1:
        raise wrong(f"{where}.address", "text that is not empty", value0)
    value0 = value.get("actors")
    if type(value0) is not int or not 0 <= value0 <= 9007199254740991:
        raise wrong(f"{where}.actors", "a whole number", value0)
    value0 = value.get("gpus")
    if not isinstance(value0, (int, float)) or isinstance(value0, bool) or not 0 <= value0 <= LARGEST:
        raise wrong(f"{where}.gpus", "a number from 0", value0)
    value0 = value.get("cpus")
    if not isinstance(value0, (int, float)) or isinstance(value0, bool) or not 0 <= value0 <= LARGEST:
        raise wrong(f"{where}.cpus", "a number from 0", value0)
    value0 = value.get("files")
    if type(value0) is not str or value0 not in ("auto", "shared", "store"):
        raise wrong(f"{where}.files", "one of auto, shared, store", value0)
    value0 = value.get("adapters")
    if value0 is None and "adapters" not in value:
        raise wrong(f"{where}.adapters", "a value or null", value0)
    if value0 is not None:
        if type(value0) is not str or len(value0) < 1:
            raise wrong(f"{where}.adapters", "text that is not empty", value0)
    value0 = value.get("inbox")
    if value0 is None and "inbox" not in value:
        raise wrong(f"{where}.inbox", "a value or null", value0)
    if value0 is not None:
        if type(value0) is not str or len(value0) < 1:
            raise wrong(f"{where}.inbox", "text that is not empty", value0)


def _open_params(value: Any, where: str) -> None:
    if type(value) is not dict:
        raise wrong(f"{where}", "an object", value)
    value0 = value.get("channel")
    if type(value0) is not int or not 1 <= value0 <= 4294967295:
        raise wrong(f"{where}.channel", "a positive whole number", value0)
    value0 = value.get("device")
    if type(value0) is not str or len(value0) < 1 or len(value0) > 80:
        raise wrong(f"{where}.device", "text of 1 to 80 characters", value0)
    value0 = value.get("command")
    if type(value0) is not list or len(value0) < 1:
        raise wrong(f"{where}.command", "a list of at least 1", value0)
    for item1 in value0:
        if type(item1) is not str:
            raise wrong(f"{where}.command", "text", item1)
    value0 = value.get("env")
    if type(value0) is not dict:
        raise wrong(f"{where}.env", "an object", value0)
    for name1, item1 in value0.items():
        if type(item1) is not str:
            raise wrong(f"{where}.env.{name1}", "text", item1)


def _close_params(value: Any, where: str) -> None:
    if type(value) is not dict:
        raise wrong(f"{where}", "an object", value)
    value0 = value.get("channel")
    if type(value0) is not int or not 1 <= value0 <= 4294967295:
        raise wrong(f"{where}.channel", "a positive whole number", value0)


def _renew_params(value: Any, where: str) -> None:
    if type(value) is not dict:
        raise wrong(f"{where}", "an object", value)
    value0 = value.get("device")
    if type(value0) is not str or len(value0) < 1 or len(value0) > 80:
        raise wrong(f"{where}.device", "text of 1 to 80 characters", value0)


#: Method -> the check of its params, which are an object.
CHECKS: Mapping[str, Callable[[Any, str], None]] = {
    "join": _join_params,
    "open": _open_params,
    "close": _close_params,
    "renew": _renew_params,
}
