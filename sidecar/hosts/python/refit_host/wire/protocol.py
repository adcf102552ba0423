# Generated from protocol/src/host by `npm run generate`; do not edit.
# ruff: noqa: E501
"""The host protocol's calls and answers, checks of params, and error numbers. A check raises HOST_INVALID_PARAMS that names the field."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypedDict

from ..failure import HostFailure

PROTOCOL_VERSION = 1

WEIGHT_DTYPES = ("f32", "f16", "bf16", "fp8", "int8", "nvfp4")

#: No JSON number beyond it is finite.
LARGEST = sys.float_info.max

#: JSON-RPC numbers of the errors.
ERRORS: Mapping[str, int] = {
    "HOST_MALFORMED_FRAME": -32700,
    "HOST_INVALID_REQUEST": -32600,
    "HOST_UNKNOWN_METHOD": -32601,
    "HOST_INVALID_PARAMS": -32602,
    "HOST_INTERNAL": -32603,
    "HOST_PROTOCOL_MISMATCH": -32001,
    "HOST_HELLO_REQUIRED": -32002,
    "HOST_CANCELLED": -32003,
    "HOST_SHUTTING_DOWN": -32004,
    "HOST_ENGINE_UNKNOWN": -32010,
    "HOST_ENGINE_EXISTS": -32011,
    "HOST_ENGINE_DIRTY": -32012,
    "HOST_GRAPH_INVALID": -32013,
    "HOST_NO_GRAPH": -32014,
    "HOST_PRECISION_UNSUPPORTED": -32015,
    "HOST_GENERATION_STALE": -32016,
    "HOST_PLAN_STALE": -32017,
    "HOST_PLAN_INVALID": -32018,
    "HOST_TOKEN_UNKNOWN": -32019,
    "HOST_PARAMETER_UNKNOWN": -32020,
    "HOST_NOT_REFITTABLE": -32021,
    "HOST_SHAPE_MISMATCH": -32022,
    "HOST_NON_FINITE": -32023,
    "HOST_FILE_MISSING": -32030,
    "HOST_FILE_CHANGED": -32031,
    "HOST_FILE_INVALID": -32032,
    "HOST_DELTA_INVALID": -32033,
    "HOST_OUT_OF_MEMORY": -32040,
    "HOST_LIBRARY_MISSING": -32041,
    "HOST_DEVICE_UNSUPPORTED": -32042,
    "HOST_BUILD_FAILED": -32043,
    "HOST_ENGINE_REFUSED": -32044,
    "HOST_INPUT_INVALID": -32050,
    "HOST_STEP_FAILED": -32051,
    "HOST_INPUT_FORGOTTEN": -32054,
    "HOST_SEGMENT_REFUSED": -32052,
    "HOST_SEGMENT_SHORT": -32053,
    "HOST_SEGMENT_STALE": -32055,
    "HOST_SHARE_REFUSED": -32056,
}


class CancelParams(TypedDict):
    id: int


class DiscardResult(TypedDict):
    pass


CancelResult = DiscardResult


class CheckpointSourceFile(TypedDict):
    path: str
    sizeBytes: int
    mtimeNs: str
    inode: str


class _CheckpointSourceParametersValuePieceStorage(TypedDict):
    format: Literal["scaled", "nvfp4", "mxfp8"]
    scale: str


class CheckpointSourceParametersValuePieceStorage(_CheckpointSourceParametersValuePieceStorage, total=False):
    scale2: str
    columnScale: str
    rotation: int


class _CheckpointSourceParametersValuePiece(TypedDict):
    file: int
    key: str
    dtype: Literal["BOOL", "U8", "I8", "I16", "U16", "I32", "U32", "I64", "U64", "F16", "BF16", "F32", "F64", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "F6_E2M3", "F6_E3M2", "F4", "C64"]
    start: int
    length: int
    swapHalves: bool


class CheckpointSourceParametersValuePiece(_CheckpointSourceParametersValuePiece, total=False):
    storage: CheckpointSourceParametersValuePieceStorage


class CheckpointSourceParametersValue(TypedDict):
    shape: list[int]
    pieces: list[CheckpointSourceParametersValuePiece]


class CheckpointSource(TypedDict):
    files: list[CheckpointSourceFile]
    parameters: dict[str, CheckpointSourceParametersValue]


class _ChecksumsParams(TypedDict):
    engine: str


class ChecksumsParams(_ChecksumsParams, total=False):
    parameters: list[str]


class ChecksumsResult(TypedDict):
    sha256: dict[str, str]


class CommitParams(TypedDict):
    engine: str
    token: str


class CommitResultLosseParameter(TypedDict):
    parameter: str
    way: Literal["merged", "branch"]
    projection: float
    lostShare: float


class CommitResultLosse(TypedDict):
    adapter: str
    projection: float
    lostShare: float
    merged: int
    branched: int
    parameters: list[CommitResultLosseParameter]


class _CommitResult(TypedDict):
    ms: float
    writes: int
    generation: int


class CommitResult(_CommitResult, total=False):
    losses: list[CommitResultLosse]


class DesiredStateStackItem(TypedDict):
    sha256: str
    strength: float


class _DesiredState(TypedDict):
    checkpoint: str
    stack: list[DesiredStateStackItem]


class DesiredState(_DesiredState, total=False):
    adapterLoss: float


class DiscardParams(TypedDict):
    engine: str
    token: str


class _HelloParams(TypedDict):
    protocolVersion: int


class HelloParams(_HelloParams, total=False):
    segments: str


WeightDtype = Literal["f32", "f16", "bf16", "fp8", "int8", "nvfp4"]


class _HelloResultDevice(TypedDict):
    type: str
    name: str


class HelloResultDevice(_HelloResultDevice, total=False):
    capability: str
    driver: str


class HelloResultMemory(TypedDict):
    totalBytes: int
    freeBytes: int


class HelloResultShares(TypedDict):
    medium: Literal["cuda-ipc", "memfd"]
    device: str


class _HelloResult(TypedDict):
    protocolVersion: int
    kind: str
    versions: dict[str, str]
    device: HelloResultDevice
    precisions: list[WeightDtype]
    memory: HelloResultMemory


class HelloResult(_HelloResult, total=False):
    segments: bool
    shares: HelloResultShares
    keepsInputs: bool


class StackFile(TypedDict):
    delta: str
    sha256: str
    strength: float


class LoadParamsGraph(TypedDict):
    folder: str
    variant: str


class _LoadParams(TypedDict):
    engine: str
    graph: LoadParamsGraph | None
    weightDtype: WeightDtype
    checkpoint: CheckpointSource
    stack: list[StackFile]


class LoadParams(_LoadParams, total=False):
    parameters: dict[str, list[int]]
    steps: bool
    adapterLoss: float
    verify: bool


class LoadResultLosseParameter(TypedDict):
    parameter: str
    way: Literal["merged", "branch"]
    projection: float
    lostShare: float


class LoadResultLosse(TypedDict):
    adapter: str
    projection: float
    lostShare: float
    merged: int
    branched: int
    parameters: list[LoadResultLosseParameter]


class LoadResultQuantised(TypedDict):
    format: Literal["fp8", "int8", "nvfp4"]
    way: str
    layers: int
    whole: list[str]
    weightError: float
    outputError: float | None


class _LoadResult(TypedDict):
    ms: float
    parameters: int
    bytes: int
    sessionLoads: int
    generation: int


class LoadResult(_LoadResult, total=False):
    losses: list[LoadResultLosse]
    quantised: LoadResultQuantised
    sha256: dict[str, str]


class LogNotification(TypedDict):
    level: Literal["debug", "info", "warn", "error"]
    message: str


class OffloadParams(TypedDict):
    engine: str


class OffloadResult(TypedDict):
    bytes: int


class RefitPlanWrite(TypedDict):
    parameter: str
    reason: Literal["touched", "restored", "base"]


RefitPlan = TypedDict(
    "RefitPlan",
    {
        "from": DesiredState | None,
        "to": DesiredState,
        "full": bool,
        "writes": list[RefitPlanWrite],
    },
)


class _PrepareParams(TypedDict):
    engine: str
    generation: int
    plan: RefitPlan
    checkpoint: CheckpointSource | None
    stack: list[StackFile]


class PrepareParams(_PrepareParams, total=False):
    adapterLoss: float
    verify: bool


class _PrepareResult(TypedDict):
    token: str
    writes: int
    bytesRead: int
    bytesWritten: int
    ms: float
    mode: Literal["staged", "inPlace"]


class PrepareResult(_PrepareResult, total=False):
    sha256: dict[str, str]


class ProgressNotification(TypedDict):
    id: int
    stage: str
    done: float
    total: float


class ReadBackParams(TypedDict):
    engine: str
    parameters: list[str]


ReadBackResult = DiscardResult


class ServingNotificationPlacementRefusedItem(TypedDict):
    steps: str
    reason: str


class _ServingNotificationPlacement(TypedDict):
    base: str
    tier: str
    deviceBytes: int
    streamedBytes: int


class ServingNotificationPlacement(_ServingNotificationPlacement, total=False):
    refused: list[ServingNotificationPlacementRefusedItem]


class ServingNotificationQuantised(TypedDict):
    format: Literal["fp8", "int8", "nvfp4"]
    way: str
    layers: int
    whole: list[str]
    weightError: float
    outputError: float | None


class _ServingNotification(TypedDict):
    engine: str
    placement: ServingNotificationPlacement


class ServingNotification(_ServingNotification, total=False):
    quantised: ServingNotificationQuantised


class ShareParams(TypedDict):
    medium: Literal["cuda-ipc", "memfd"]
    device: str
    bytes: int


class _ShareResult(TypedDict):
    name: str
    bytes: int
    handle: str
    proof: str


class ShareResult(_ShareResult, total=False):
    bell: str


ShutdownParams = DiscardResult


ShutdownResult = DiscardResult


StatusParams = DiscardResult


class StatusResultEnginePlacementRefusedItem(TypedDict):
    steps: str
    reason: str


class _StatusResultEnginePlacement(TypedDict):
    base: str
    tier: str
    deviceBytes: int
    streamedBytes: int


class StatusResultEnginePlacement(_StatusResultEnginePlacement, total=False):
    refused: list[StatusResultEnginePlacementRefusedItem]


class StatusResultEngineQuantised(TypedDict):
    format: Literal["fp8", "int8", "nvfp4"]
    way: str
    layers: int
    whole: list[str]
    weightError: float
    outputError: float | None


class StatusResultEngineLosseParameter(TypedDict):
    parameter: str
    way: Literal["merged", "branch"]
    projection: float
    lostShare: float


class StatusResultEngineLosse(TypedDict):
    adapter: str
    projection: float
    lostShare: float
    merged: int
    branched: int
    parameters: list[StatusResultEngineLosseParameter]


class _StatusResultEngine(TypedDict):
    engine: str
    generation: int
    dirty: bool
    bytes: int
    parameters: int
    prepared: list[str]


class StatusResultEngine(_StatusResultEngine, total=False):
    away: bool
    placement: StatusResultEnginePlacement
    quantised: StatusResultEngineQuantised
    losses: list[StatusResultEngineLosse]
    tier: str


class _StatusResultMemory(TypedDict):
    totalBytes: int
    freeBytes: int
    processBytes: int


class StatusResultMemory(_StatusResultMemory, total=False):
    sharedBytes: int


class StatusResult(TypedDict):
    engines: list[StatusResultEngine]
    sessionLoads: int
    memory: StatusResultMemory


class _StepParamsReply(TypedDict):
    segment: str
    offset: int
    bytes: int


class StepParamsReply(_StepParamsReply, total=False):
    bell: int


class _StepParams(TypedDict):
    engine: str
    generation: int


class StepParams(_StepParams, total=False):
    segments: list[str]
    reply: StepParamsReply
    keep: dict[str, str]
    use: dict[str, str]


class StepResult(TypedDict):
    ms: float


class UnloadParams(TypedDict):
    engine: str


class UnloadResult(TypedDict):
    bytes: int


class UnshareParams(TypedDict):
    name: str


class UnshareResult(TypedDict):
    bytes: int


def wrong(where: str, expected: str, value: object) -> HostFailure:
    return HostFailure("HOST_INVALID_PARAMS", f"{where}: expected {expected}, received {type(value).__name__}", {"field": where})


PATTERN_0 = re.compile(r"^[0-9a-f]{64}$", re.ASCII).fullmatch
PATTERN_1 = re.compile(r"^-?\d+$", re.ASCII).fullmatch
PATTERN_2 = re.compile(r"^\d+$", re.ASCII).fullmatch
PATTERN_3 = re.compile(r"^[A-Za-z0-9_-]{1,64}$", re.ASCII).fullmatch


def _stack_file(value: Any, where: str) -> None:
    if type(value) is not dict:
        raise wrong(f"{where}", "an object", value)
    value0 = value.get("delta")
    if type(value0) is not str or len(value0) < 1:
        raise wrong(f"{where}.delta", "text that is not empty", value0)
    value0 = value.get("sha256")
    if type(value0) is not str or PATTERN_0(value0) is None:
        raise wrong(f"{where}.sha256", "text of the form ^[0-9a-f]{64}$", value0)
    value0 = value.get("strength")
    if not isinstance(value0, (int, float)) or isinstance(value0, bool) or not -LARGEST <= value0 <= LARGEST:
        raise wrong(f"{where}.strength", "a finite number", value0)


def _desired_state(value: Any, where: str) -> None:
    if type(value) is not dict:
        raise wrong(f"{where}", "an object", value)
    value0 = value.get("checkpoint")
    if type(value0) is not str:
        raise wrong(f"{where}.checkpoint", "text", value0)
    value0 = value.get("stack")
    if type(value0) is not list:
        raise wrong(f"{where}.stack", "a list", value0)
    for item1 in value0:
        if type(item1) is not dict:
            raise wrong(f"{where}.stack", "an object", item1)
        value2 = item1.get("sha256")
        if type(value2) is not str or PATTERN_0(value2) is None:
            raise wrong(f"{where}.stack.sha256", "text of the form ^[0-9a-f]{64}$", value2)
        value2 = item1.get("strength")
        if not isinstance(value2, (int, float)) or isinstance(value2, bool) or not -LARGEST <= value2 <= LARGEST:
            raise wrong(f"{where}.stack.strength", "a finite number", value2)
    value0 = value.get("adapterLoss")
    if value0 is not None:
        if not isinstance(value0, (int, float)) or isinstance(value0, bool) or not 0 <= value0 <= 1:
            raise wrong(f"{where}.adapterLoss", "a number from 0 to 1", value0)


def _refit_plan(value: Any, where: str) -> None:
    if type(value) is not dict:
        raise wrong(f"{where}", "an object", value)
    value0 = value.get("from")
    if value0 is None and "from" not in value:
        raise wrong(f"{where}.from", "a value or null", value0)
    if value0 is not None:
        _desired_state(value0, f"{where}.from")
    value0 = value.get("to")
    _desired_state(value0, f"{where}.to")
    value0 = value.get("full")
    if type(value0) is not bool:
        raise wrong(f"{where}.full", "true or false", value0)
    value0 = value.get("writes")
    if type(value0) is not list:
        raise wrong(f"{where}.writes", "a list", value0)
    for item1 in value0:
        if type(item1) is not dict:
            raise wrong(f"{where}.writes", "an object", item1)
        value2 = item1.get("parameter")
        if type(value2) is not str:
            raise wrong(f"{where}.writes.parameter", "text", value2)
        value2 = item1.get("reason")
        if type(value2) is not str or value2 not in ("touched", "restored", "base"):
            raise wrong(f"{where}.writes.reason", "one of touched, restored, base", value2)


def _checkpoint_source(value: Any, where: str) -> None:
    if type(value) is not dict:
        raise wrong(f"{where}", "an object", value)
    value0 = value.get("files")
    if type(value0) is not list:
        raise wrong(f"{where}.files", "a list", value0)
    for item1 in value0:
        if type(item1) is not dict:
            raise wrong(f"{where}.files", "an object", item1)
        value2 = item1.get("path")
        if type(value2) is not str or len(value2) < 1:
            raise wrong(f"{where}.files.path", "text that is not empty", value2)
        value2 = item1.get("sizeBytes")
        if type(value2) is not int or not 0 <= value2 <= 9007199254740991:
            raise wrong(f"{where}.files.sizeBytes", "a whole number", value2)
        value2 = item1.get("mtimeNs")
        if type(value2) is not str or PATTERN_1(value2) is None:
            raise wrong(f"{where}.files.mtimeNs", "text of the form ^-?\\d+$", value2)
        value2 = item1.get("inode")
        if type(value2) is not str or PATTERN_2(value2) is None:
            raise wrong(f"{where}.files.inode", "text of the form ^\\d+$", value2)
    value0 = value.get("parameters")
    if type(value0) is not dict:
        raise wrong(f"{where}.parameters", "an object", value0)
    for name1, item1 in value0.items():
        if type(item1) is not dict:
            raise wrong(f"{where}.parameters.{name1}", "an object", item1)
        value2 = item1.get("shape")
        if type(value2) is not list or len(value2) > 8:
            raise wrong(f"{where}.parameters.{name1}.shape", "a list of at most 8", value2)
        for item3 in value2:
            if type(item3) is not int or not 0 <= item3 <= 9007199254740991:
                raise wrong(f"{where}.parameters.{name1}.shape", "a whole number", item3)
        value2 = item1.get("pieces")
        if type(value2) is not list or len(value2) < 1:
            raise wrong(f"{where}.parameters.{name1}.pieces", "a list of at least 1", value2)
        for item3 in value2:
            if type(item3) is not dict:
                raise wrong(f"{where}.parameters.{name1}.pieces", "an object", item3)
            value4 = item3.get("file")
            if type(value4) is not int or not 0 <= value4 <= 9007199254740991:
                raise wrong(f"{where}.parameters.{name1}.pieces.file", "a whole number", value4)
            value4 = item3.get("key")
            if type(value4) is not str:
                raise wrong(f"{where}.parameters.{name1}.pieces.key", "text", value4)
            value4 = item3.get("dtype")
            if type(value4) is not str or value4 not in ("BOOL", "U8", "I8", "I16", "U16", "I32", "U32", "I64", "U64", "F16", "BF16", "F32", "F64", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "F6_E2M3", "F6_E3M2", "F4", "C64"):
                raise wrong(f"{where}.parameters.{name1}.pieces.dtype", "one of BOOL, U8, I8, I16, U16, I32, U32, I64, U64, F16, BF16, F32, F64, F8_E4M3, F8_E5M2, F8_E8M0, F8_E4M3FNUZ, F8_E5M2FNUZ, F6_E2M3, F6_E3M2, F4, C64", value4)
            value4 = item3.get("start")
            if type(value4) is not int or not 0 <= value4 <= 9007199254740991:
                raise wrong(f"{where}.parameters.{name1}.pieces.start", "a whole number", value4)
            value4 = item3.get("length")
            if type(value4) is not int or not 0 <= value4 <= 9007199254740991:
                raise wrong(f"{where}.parameters.{name1}.pieces.length", "a whole number", value4)
            value4 = item3.get("swapHalves")
            if type(value4) is not bool:
                raise wrong(f"{where}.parameters.{name1}.pieces.swapHalves", "true or false", value4)
            value4 = item3.get("storage")
            if value4 is not None:
                if type(value4) is not dict:
                    raise wrong(f"{where}.parameters.{name1}.pieces.storage", "an object", value4)
                value5 = value4.get("format")
                if type(value5) is not str or value5 not in ("scaled", "nvfp4", "mxfp8"):
                    raise wrong(f"{where}.parameters.{name1}.pieces.storage.format", "one of scaled, nvfp4, mxfp8", value5)
                value5 = value4.get("scale")
                if type(value5) is not str:
                    raise wrong(f"{where}.parameters.{name1}.pieces.storage.scale", "text", value5)
                value5 = value4.get("scale2")
                if value5 is not None:
                    if type(value5) is not str:
                        raise wrong(f"{where}.parameters.{name1}.pieces.storage.scale2", "text", value5)
                value5 = value4.get("columnScale")
                if value5 is not None:
                    if type(value5) is not str:
                        raise wrong(f"{where}.parameters.{name1}.pieces.storage.columnScale", "text", value5)
                value5 = value4.get("rotation")
                if value5 is not None:
                    if type(value5) is not int or not 1 <= value5 <= 9007199254740991:
                        raise wrong(f"{where}.parameters.{name1}.pieces.storage.rotation", "a positive whole number", value5)


def _weight_dtype(value: Any, where: str) -> None:
    if type(value) is not str or value not in ("f32", "f16", "bf16", "fp8", "int8", "nvfp4"):
        raise wrong(f"{where}", "one of f32, f16, bf16, fp8, int8, nvfp4", value)


def _hello_params(value: Any, where: str) -> None:
    if type(value) is not dict:
        raise wrong(f"{where}", "an object", value)
    value0 = value.get("protocolVersion")
    if type(value0) is not int or not -9007199254740991 <= value0 <= 9007199254740991:
        raise wrong(f"{where}.protocolVersion", "a whole number", value0)
    value0 = value.get("segments")
    if value0 is not None:
        if type(value0) is not str or len(value0) < 1:
            raise wrong(f"{where}.segments", "text that is not empty", value0)


def _load_params(value: Any, where: str) -> None:
    if type(value) is not dict:
        raise wrong(f"{where}", "an object", value)
    value0 = value.get("engine")
    if type(value0) is not str or len(value0) < 1 or len(value0) > 200:
        raise wrong(f"{where}.engine", "text of 1 to 200 characters", value0)
    value0 = value.get("graph")
    if value0 is None and "graph" not in value:
        raise wrong(f"{where}.graph", "a value or null", value0)
    if value0 is not None:
        if type(value0) is not dict:
            raise wrong(f"{where}.graph", "an object", value0)
        value1 = value0.get("folder")
        if type(value1) is not str or len(value1) < 1:
            raise wrong(f"{where}.graph.folder", "text that is not empty", value1)
        value1 = value0.get("variant")
        if type(value1) is not str or len(value1) < 1:
            raise wrong(f"{where}.graph.variant", "text that is not empty", value1)
    value0 = value.get("parameters")
    if value0 is not None:
        if type(value0) is not dict:
            raise wrong(f"{where}.parameters", "an object", value0)
        for name1, item1 in value0.items():
            if type(item1) is not list or len(item1) > 8:
                raise wrong(f"{where}.parameters.{name1}", "a list of at most 8", item1)
            for item2 in item1:
                if type(item2) is not int or not 0 <= item2 <= 9007199254740991:
                    raise wrong(f"{where}.parameters.{name1}", "a whole number", item2)
    value0 = value.get("steps")
    if value0 is not None:
        if type(value0) is not bool:
            raise wrong(f"{where}.steps", "true or false", value0)
    value0 = value.get("weightDtype")
    _weight_dtype(value0, f"{where}.weightDtype")
    value0 = value.get("checkpoint")
    _checkpoint_source(value0, f"{where}.checkpoint")
    value0 = value.get("stack")
    if type(value0) is not list:
        raise wrong(f"{where}.stack", "a list", value0)
    for item1 in value0:
        _stack_file(item1, f"{where}.stack")
    value0 = value.get("adapterLoss")
    if value0 is not None:
        if not isinstance(value0, (int, float)) or isinstance(value0, bool) or not 0 <= value0 <= 1:
            raise wrong(f"{where}.adapterLoss", "a number from 0 to 1", value0)
    value0 = value.get("verify")
    if value0 is not None:
        if type(value0) is not bool:
            raise wrong(f"{where}.verify", "true or false", value0)


def _prepare_params(value: Any, where: str) -> None:
    if type(value) is not dict:
        raise wrong(f"{where}", "an object", value)
    value0 = value.get("engine")
    if type(value0) is not str or len(value0) < 1 or len(value0) > 200:
        raise wrong(f"{where}.engine", "text of 1 to 200 characters", value0)
    value0 = value.get("generation")
    if type(value0) is not int or not 0 <= value0 <= 9007199254740991:
        raise wrong(f"{where}.generation", "a whole number", value0)
    value0 = value.get("plan")
    _refit_plan(value0, f"{where}.plan")
    value0 = value.get("checkpoint")
    if value0 is None and "checkpoint" not in value:
        raise wrong(f"{where}.checkpoint", "a value or null", value0)
    if value0 is not None:
        _checkpoint_source(value0, f"{where}.checkpoint")
    value0 = value.get("stack")
    if type(value0) is not list:
        raise wrong(f"{where}.stack", "a list", value0)
    for item1 in value0:
        _stack_file(item1, f"{where}.stack")
    value0 = value.get("adapterLoss")
    if value0 is not None:
        if not isinstance(value0, (int, float)) or isinstance(value0, bool) or not 0 <= value0 <= 1:
            raise wrong(f"{where}.adapterLoss", "a number from 0 to 1", value0)
    value0 = value.get("verify")
    if value0 is not None:
        if type(value0) is not bool:
            raise wrong(f"{where}.verify", "true or false", value0)


def _commit_params(value: Any, where: str) -> None:
    if type(value) is not dict:
        raise wrong(f"{where}", "an object", value)
    value0 = value.get("engine")
    if type(value0) is not str or len(value0) < 1 or len(value0) > 200:
        raise wrong(f"{where}.engine", "text of 1 to 200 characters", value0)
    value0 = value.get("token")
    if type(value0) is not str or len(value0) < 1 or len(value0) > 200:
        raise wrong(f"{where}.token", "text of 1 to 200 characters", value0)


def _discard_params(value: Any, where: str) -> None:
    if type(value) is not dict:
        raise wrong(f"{where}", "an object", value)
    value0 = value.get("engine")
    if type(value0) is not str or len(value0) < 1 or len(value0) > 200:
        raise wrong(f"{where}.engine", "text of 1 to 200 characters", value0)
    value0 = value.get("token")
    if type(value0) is not str or len(value0) < 1 or len(value0) > 200:
        raise wrong(f"{where}.token", "text of 1 to 200 characters", value0)


def _step_params(value: Any, where: str) -> None:
    if type(value) is not dict:
        raise wrong(f"{where}", "an object", value)
    value0 = value.get("engine")
    if type(value0) is not str or len(value0) < 1 or len(value0) > 200:
        raise wrong(f"{where}.engine", "text of 1 to 200 characters", value0)
    value0 = value.get("generation")
    if type(value0) is not int or not 0 <= value0 <= 9007199254740991:
        raise wrong(f"{where}.generation", "a whole number", value0)
    value0 = value.get("segments")
    if value0 is not None:
        if type(value0) is not list or len(value0) > 8:
            raise wrong(f"{where}.segments", "a list of at most 8", value0)
        for item1 in value0:
            if type(item1) is not str or PATTERN_3(item1) is None:
                raise wrong(f"{where}.segments", "text of the form ^[A-Za-z0-9_-]{1,64}$", item1)
    value0 = value.get("reply")
    if value0 is not None:
        if type(value0) is not dict:
            raise wrong(f"{where}.reply", "an object", value0)
        value1 = value0.get("segment")
        if type(value1) is not str or PATTERN_3(value1) is None:
            raise wrong(f"{where}.reply.segment", "text of the form ^[A-Za-z0-9_-]{1,64}$", value1)
        value1 = value0.get("offset")
        if type(value1) is not int or not 0 <= value1 <= 9007199254740991:
            raise wrong(f"{where}.reply.offset", "a whole number", value1)
        value1 = value0.get("bytes")
        if type(value1) is not int or not 0 <= value1 <= 9007199254740991:
            raise wrong(f"{where}.reply.bytes", "a whole number", value1)
        value1 = value0.get("bell")
        if value1 is not None:
            if type(value1) is not int or not 0 <= value1 <= 9007199254740991:
                raise wrong(f"{where}.reply.bell", "a whole number", value1)
    value0 = value.get("keep")
    if value0 is not None:
        if type(value0) is not dict:
            raise wrong(f"{where}.keep", "an object", value0)
        for name1, item1 in value0.items():
            if type(item1) is not str or len(item1) < 1 or len(item1) > 200:
                raise wrong(f"{where}.keep.{name1}", "text of 1 to 200 characters", item1)
    value0 = value.get("use")
    if value0 is not None:
        if type(value0) is not dict:
            raise wrong(f"{where}.use", "an object", value0)
        for name1, item1 in value0.items():
            if type(item1) is not str or len(item1) < 1 or len(item1) > 200:
                raise wrong(f"{where}.use.{name1}", "text of 1 to 200 characters", item1)


def _share_params(value: Any, where: str) -> None:
    if type(value) is not dict:
        raise wrong(f"{where}", "an object", value)
    value0 = value.get("medium")
    if type(value0) is not str or value0 not in ("cuda-ipc", "memfd"):
        raise wrong(f"{where}.medium", "one of cuda-ipc, memfd", value0)
    value0 = value.get("device")
    if type(value0) is not str or len(value0) < 1 or len(value0) > 200:
        raise wrong(f"{where}.device", "text of 1 to 200 characters", value0)
    value0 = value.get("bytes")
    if type(value0) is not int or not 0 <= value0 <= 9007199254740991:
        raise wrong(f"{where}.bytes", "a whole number", value0)


def _unshare_params(value: Any, where: str) -> None:
    if type(value) is not dict:
        raise wrong(f"{where}", "an object", value)
    value0 = value.get("name")
    if type(value0) is not str or PATTERN_3(value0) is None:
        raise wrong(f"{where}.name", "text of the form ^[A-Za-z0-9_-]{1,64}$", value0)


def _read_back_params(value: Any, where: str) -> None:
    if type(value) is not dict:
        raise wrong(f"{where}", "an object", value)
    value0 = value.get("engine")
    if type(value0) is not str or len(value0) < 1 or len(value0) > 200:
        raise wrong(f"{where}.engine", "text of 1 to 200 characters", value0)
    value0 = value.get("parameters")
    if type(value0) is not list:
        raise wrong(f"{where}.parameters", "a list", value0)
    for item1 in value0:
        if type(item1) is not str:
            raise wrong(f"{where}.parameters", "text", item1)


def _checksums_params(value: Any, where: str) -> None:
    if type(value) is not dict:
        raise wrong(f"{where}", "an object", value)
    value0 = value.get("engine")
    if type(value0) is not str or len(value0) < 1 or len(value0) > 200:
        raise wrong(f"{where}.engine", "text of 1 to 200 characters", value0)
    value0 = value.get("parameters")
    if value0 is not None:
        if type(value0) is not list:
            raise wrong(f"{where}.parameters", "a list", value0)
        for item1 in value0:
            if type(item1) is not str:
                raise wrong(f"{where}.parameters", "text", item1)


def _unload_params(value: Any, where: str) -> None:
    if type(value) is not dict:
        raise wrong(f"{where}", "an object", value)
    value0 = value.get("engine")
    if type(value0) is not str or len(value0) < 1 or len(value0) > 200:
        raise wrong(f"{where}.engine", "text of 1 to 200 characters", value0)


def _offload_params(value: Any, where: str) -> None:
    if type(value) is not dict:
        raise wrong(f"{where}", "an object", value)
    value0 = value.get("engine")
    if type(value0) is not str or len(value0) < 1 or len(value0) > 200:
        raise wrong(f"{where}.engine", "text of 1 to 200 characters", value0)


def _status_params(value: Any, where: str) -> None:
    if type(value) is not dict:
        raise wrong(f"{where}", "an object", value)


def _shutdown_params(value: Any, where: str) -> None:
    if type(value) is not dict:
        raise wrong(f"{where}", "an object", value)


def _cancel_params(value: Any, where: str) -> None:
    if type(value) is not dict:
        raise wrong(f"{where}", "an object", value)
    value0 = value.get("id")
    if type(value0) is not int or not -9007199254740991 <= value0 <= 9007199254740991:
        raise wrong(f"{where}.id", "a whole number", value0)


#: Method -> the check of its params, which are an object.
CHECKS: Mapping[str, Callable[[Any, str], None]] = {
    "hello": _hello_params,
    "load": _load_params,
    "prepare": _prepare_params,
    "commit": _commit_params,
    "discard": _discard_params,
    "step": _step_params,
    "share": _share_params,
    "unshare": _unshare_params,
    "readBack": _read_back_params,
    "checksums": _checksums_params,
    "unload": _unload_params,
    "offload": _offload_params,
    "status": _status_params,
    "shutdown": _shutdown_params,
    "cancel": _cancel_params,
}
