"""The wire's messages, methods and errors. Generated from protocol/src by `npm run generate`; do not edit."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypedDict

PROTOCOL_VERSION = 1


class _AdapterFindParamsTensor(TypedDict):
    dtype: Literal["F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2", "I64", "I32", "I16", "I8", "U8", "BOOL"]
    shape: list[int]
    sha256: str


class AdapterFindParamsTensor(_AdapterFindParamsTensor, total=False):
    key: str


class AdapterFindParams(TypedDict):
    tensors: list[AdapterFindParamsTensor]


class AdapterFindResultAdapter(TypedDict):
    id: str
    sha256: str
    name: str


class AdapterFindResult(TypedDict):
    adapter: AdapterFindResultAdapter | None


class _AdapterLayersParams(TypedDict):
    id: str


class AdapterLayersParams(_AdapterLayersParams, total=False):
    checkpoint: str


class TouchedLayer(TypedDict):
    parameter: str
    kinds: list[str]
    rank: int | None
    norm: float | None


class AdapterLayersResult(TypedDict):
    checkpoint: str | None
    layers: list[TouchedLayer]
    ignored: int
    failed: int


class AdapterNotes(TypedDict):
    id: str
    title: str | None
    base: str | None
    triggerWords: list[str]
    rank: int | None
    description: str | None
    preview: bool


class _TensorDescriptor(TypedDict):
    name: str
    dtype: Literal["f32", "f16", "bf16", "u8", "i64"]
    shape: list[int]
    offset: int
    bytes: int


class TensorDescriptor(_TensorDescriptor, total=False):
    segment: int


class _AdapterPushParams(TypedDict):
    push: str
    last: bool


class AdapterPushParams(_AdapterPushParams, total=False):
    name: str
    tensors: list[TensorDescriptor]


class AdapterPushResultAdapter(TypedDict):
    id: str
    sha256: str
    sizeBytes: int
    known: bool


class AdapterPushResult(TypedDict):
    adapter: AdapterPushResultAdapter | None


class KeyReason(TypedDict):
    key: str
    reason: str


class AdapterReport(TypedDict):
    adapter: str
    sha256: str
    used: int
    ignored: int
    failed: int
    ignoredKeys: list[KeyReason]
    failedKeys: list[KeyReason]


class PingParams(TypedDict):
    pass


CacheListParams = PingParams


class CacheListResultPart(TypedDict):
    name: Literal["deltas", "engines"]
    entries: int
    bytes: int
    limitBytes: int


class CacheListResult(TypedDict):
    parts: list[CacheListResultPart]


class CancelParams(TypedDict):
    request: int | str


class CancelResult(TypedDict):
    cancelled: bool


class Problem(TypedDict):
    code: str
    message: str


class CatalogEntry(TypedDict):
    id: str
    kind: Literal["adapter", "checkpoint"]
    name: str
    folder: str | None
    sizeBytes: int
    sha256: str | None
    proof: Literal["full", "sampled"] | None
    family: str | None
    variant: str | None
    structure: str | None
    kinds: list[str]
    delta: Literal["none", "pending", "ready", "failed"]
    problem: Problem | None


class _CatalogGetParamsChoice1(TypedDict):
    id: str


class CatalogGetParamsChoice1(_CatalogGetParamsChoice1, total=False):
    hash: bool


class CatalogGetParamsChoice2(TypedDict):
    sha256: str


class _CatalogGetParamsChoice3(TypedDict):
    folder: str
    name: str


class CatalogGetParamsChoice3(_CatalogGetParamsChoice3, total=False):
    hash: bool


CatalogGetParams = CatalogGetParamsChoice1 | CatalogGetParamsChoice2 | CatalogGetParamsChoice3


class CatalogGetResult(TypedDict):
    generation: int
    entry: CatalogEntry


class CatalogListParams(TypedDict, total=False):
    kind: Literal["adapter", "checkpoint"]
    family: str
    structure: str
    folder: str
    ids: list[str]
    after: str
    limit: int


class CatalogListResult(TypedDict):
    generation: int
    entries: list[CatalogEntry]
    next: str | None


class CatalogNotesParams(TypedDict):
    ids: list[str]


class CatalogNotesResult(TypedDict):
    notes: list[AdapterNotes]


class CatalogPreviewParams(TypedDict):
    id: str


class CatalogPreviewResultPicture(TypedDict):
    type: Literal["image/png", "image/jpeg", "image/webp"]
    width: int
    height: int
    data: str


class CatalogPreviewResult(TypedDict):
    picture: CatalogPreviewResultPicture | None


class ConditioningDropParams(TypedDict):
    keys: list[str]


class ConditioningDropResult(TypedDict):
    bytes: int


class ConditioningPutParams(TypedDict):
    tensors: list[TensorDescriptor]


class ConditioningPutResult(TypedDict):
    bytes: int


class DeviceRestartParams(TypedDict):
    device: str | None


class DeviceRestartResult(TypedDict):
    restarted: list[str]


class DeviceSegment(TypedDict):
    index: int
    medium: Literal["cuda-ipc", "memfd"]
    bytes: int
    handle: str
    bell: str | None


class _StackItem(TypedDict):
    adapter: str
    strength: float


class StackItem(_StackItem, total=False):
    targets: str


class _EngineAheadParams(TypedDict):
    checkpoint: str
    stack: list[StackItem]
    precision: Literal["auto", "fp32", "fp16", "bf16", "fp8", "int8", "nvfp4"]
    host: Literal["auto", "onnxruntime", "torch", "tensorrt"]
    mode: Literal["comfyui", "extended"]
    residuals: bool
    after: str


class EngineAheadParams(_EngineAheadParams, total=False):
    adapterLoss: float


class EngineAheadResult(TypedDict):
    brought: bool


class EngineDrawParams(TypedDict):
    engine: str
    stack: list[StackItem]
    seed: int
    steps: int


class EngineDrawResultMs(TypedDict):
    refit: float
    steps: float


class EngineDrawResult(TypedDict):
    png: str
    width: int
    height: int
    shows: Literal["digits", "latents"]
    ms: EngineDrawResultMs


class _EngineFreeParams(TypedDict):
    engine: str | None


class EngineFreeParams(_EngineFreeParams, total=False):
    keep: bool


class EngineFreeResult(TypedDict):
    freed: list[str]
    queued: list[str]
    bytes: int


class EngineHistoryParams(TypedDict, total=False):
    limit: int


class RefitRecord(TypedDict):
    engine: str
    at: str
    kind: Literal["load", "refit", "recovery"]
    full: bool
    writes: int
    bytesRead: int
    bytesWritten: int
    prepareMs: float
    commitMs: float
    mode: Literal["staged", "inPlace"] | None
    failure: str | None


class EngineHistoryResult(TypedDict):
    records: list[RefitRecord]


class WeightsStackItem(TypedDict):
    sha256: str
    strength: float


class Weights(TypedDict):
    checkpoint: str
    stack: list[WeightsStackItem]


class EngineInfoLastRefit(TypedDict):
    at: str
    ms: float
    writes: int


class EngineInfoServingRefusedItem(TypedDict):
    steps: str
    reason: str


class EngineInfoServingQuantised(TypedDict):
    format: str
    way: str
    weightError: float
    outputError: float | None


class EngineInfoServing(TypedDict):
    tier: str
    refused: list[EngineInfoServingRefusedItem]
    base: str
    deviceBytes: int
    streamedBytes: int
    quantised: EngineInfoServingQuantised | None


class EngineInfoLosse(TypedDict):
    adapter: str
    projection: float
    lostShare: float
    merged: int
    branched: int


class EngineInfo(TypedDict):
    id: str
    structure: str
    family: str | None
    precision: str
    host: str
    device: str
    state: Literal["LIVE", "NEEDS_REFIT", "NEEDS_RECOMPILE", "UNKNOWN"]
    reason: str | None
    weights: Weights | None
    memoryBytes: int
    leases: int
    steps: int
    lastRefit: EngineInfoLastRefit | None
    serving: EngineInfoServing | None
    losses: list[EngineInfoLosse]


EngineListParams = PingParams


class EngineListResult(TypedDict):
    engines: list[EngineInfo]


class _EnginePrepareParams(TypedDict):
    checkpoint: str
    stack: list[StackItem]
    precision: Literal["auto", "fp32", "fp16", "bf16", "fp8", "int8", "nvfp4"]
    host: Literal["auto", "onnxruntime", "torch", "tensorrt"]
    mode: Literal["comfyui", "extended"]
    residuals: bool


class EnginePrepareParams(_EnginePrepareParams, total=False):
    adapterLoss: float
    follow: bool


class _Port(TypedDict):
    name: str
    dtype: Literal["f32", "f16", "bf16", "i64"]
    shape: list[int | str]


class Port(_Port, total=False):
    optional: bool


class EnginePrepareResultMs(TypedDict):
    total: float
    delta: float
    load: float
    refit: float


class EnginePrepareResultRefit(TypedDict):
    writes: int
    bytes: int
    full: bool


class EnginePrepareResult(TypedDict):
    lease: str
    leaseIdleMs: float
    engine: str
    host: str
    precision: str
    inputs: list[Port]
    outputs: list[Port]
    ms: EnginePrepareResultMs
    refit: EnginePrepareResultRefit | None
    adapters: list[AdapterReport]


class EngineRebuildParams(TypedDict):
    engine: str


class EngineRebuildResult(TypedDict):
    job: str


class EngineRefitParams(TypedDict):
    engine: str


class EngineRefitResult(TypedDict):
    job: str


class EngineReleaseParams(TypedDict):
    lease: str


class FoldersRemoveResult(TypedDict):
    pass


EngineReleaseResult = FoldersRemoveResult


class EngineRestackParams(TypedDict):
    engine: str
    stack: list[StackItem]


class EngineRestackResultRefit(TypedDict):
    writes: int
    full: bool


class EngineRestackResult(TypedDict):
    ms: float
    refit: EngineRestackResultRefit | None


class SegmentRange(TypedDict):
    segment: int
    offset: int
    bytes: int


class _EngineSampleParamsScheduleChoice1(TypedDict):
    sigmas: list[float]


class EngineSampleParamsScheduleChoice1(_EngineSampleParamsScheduleChoice1, total=False):
    timesteps: list[float]


class _EngineSampleParamsScheduleChoice2(TypedDict):
    steps: int


class EngineSampleParamsScheduleChoice2(_EngineSampleParamsScheduleChoice2, total=False):
    kind: Literal["normal", "karras", "exponential"]
    spacing: Literal["leading", "trailing", "linspace"]
    shift: float
    zeroTerminalSnr: bool


class _EngineSampleParamsPreviews(TypedDict):
    kind: Literal["latents", "rgb"]


class EngineSampleParamsPreviews(_EngineSampleParamsPreviews, total=False):
    every: int


class _EngineSampleParams(TypedDict):
    checkpoint: str
    stack: list[StackItem]
    sampler: Literal["euler", "euler_ancestral", "dpmpp_2m", "unipc", "flow_match_euler", "ddim"]
    schedule: EngineSampleParamsScheduleChoice1 | EngineSampleParamsScheduleChoice2
    seeds: list[int]


class EngineSampleParams(_EngineSampleParams, total=False):
    precision: Literal["auto", "fp32", "fp16", "bf16", "fp8", "int8", "nvfp4"]
    host: Literal["auto", "onnxruntime", "torch", "tensorrt"]
    mode: Literal["comfyui", "extended"]
    adapterLoss: float
    prediction: Literal["flow", "epsilon", "v"]
    cfg: float
    eta: float
    size: list[int]
    strength: float
    priority: Literal["high", "low", "normal"]
    deadlineMs: int
    client: str
    use: dict[str, str]
    previews: EngineSampleParamsPreviews
    reply: SegmentRange
    tensors: list[TensorDescriptor]


class EngineSampleResultRefits(TypedDict):
    count: int
    writes: int
    bytes: int


class EngineSampleResultMs(TypedDict):
    total: float
    queue: float
    prepare: float
    run: float


class _EngineSampleResult(TypedDict):
    engine: str
    host: str
    precision: str
    seeds: list[int]
    steps: int
    calls: int
    refits: EngineSampleResultRefits
    ms: EngineSampleResultMs
    adapters: list[AdapterReport]


class EngineSampleResult(_EngineSampleResult, total=False):
    tensors: list[TensorDescriptor]


class _EngineStepParamsReply(TypedDict):
    segment: int
    offset: int
    bytes: int


class EngineStepParamsReply(_EngineStepParamsReply, total=False):
    bell: int


class _EngineStepParams(TypedDict):
    lease: str


class EngineStepParams(_EngineStepParams, total=False):
    use: dict[str, str]
    reply: EngineStepParamsReply
    tensors: list[TensorDescriptor]


class EngineStepResultMs(TypedDict):
    queue: float
    run: float


class _EngineStepResult(TypedDict):
    ms: EngineStepResultMs


class EngineStepResult(_EngineStepResult, total=False):
    tensors: list[TensorDescriptor]


class _EngineWarmParams(TypedDict):
    checkpoint: str
    stack: list[StackItem]
    precision: Literal["auto", "fp32", "fp16", "bf16", "fp8", "int8", "nvfp4"]
    host: Literal["auto", "onnxruntime", "torch", "tensorrt"]
    mode: Literal["comfyui", "extended"]
    residuals: bool


class EngineWarmParams(_EngineWarmParams, total=False):
    adapterLoss: float


class EngineWarmResult(TypedDict):
    job: str


class Job(TypedDict):
    id: str
    kind: str
    title: str
    state: Literal["queued", "running", "paused", "done", "failed", "cancelled"]
    stage: str
    done: float
    total: float
    remainingMs: float | None
    problem: Problem | None


class EventArrivalSettled(TypedDict):
    type: Literal["arrival.settled"]
    id: str
    kind: Literal["adapter", "checkpoint"]
    waitedMs: float


class EventArrivalRefused(TypedDict):
    type: Literal["arrival.refused"]
    id: str
    code: str
    message: str


class EventCatalogChanged(TypedDict):
    type: Literal["catalog.changed"]
    generation: int
    added: list[str]
    changed: list[str]
    removed: list[str]


class EventDeltaReady(TypedDict):
    type: Literal["delta.ready"]
    id: str
    ms: float
    bytes: int
    terms: int
    cached: bool


class EventDeltaFailed(TypedDict):
    type: Literal["delta.failed"]
    id: str
    code: str
    message: str


class EventRefitStarted(TypedDict):
    type: Literal["refit.started"]
    engine: str
    full: bool
    writes: int


class EventRefitCommittedStackItem(TypedDict):
    id: str
    strength: float


class EventRefitCommitted(TypedDict):
    type: Literal["refit.committed"]
    engine: str
    ms: float
    writes: int
    bytes: int
    stack: list[EventRefitCommittedStackItem]


class EventRefitFailed(TypedDict):
    type: Literal["refit.failed"]
    engine: str
    code: str
    message: str


class EventEngineState(TypedDict):
    type: Literal["engine.state"]
    engine: str
    state: str
    reason: str | None


class EventEngineServingServingRefusedItem(TypedDict):
    steps: str
    reason: str


class EventEngineServingServingQuantised(TypedDict):
    format: str
    way: str
    weightError: float
    outputError: float | None


class EventEngineServingServing(TypedDict):
    tier: str
    refused: list[EventEngineServingServingRefusedItem]
    base: str
    deviceBytes: int
    streamedBytes: int
    quantised: EventEngineServingServingQuantised | None


class EventEngineServing(TypedDict):
    type: Literal["engine.serving"]
    engine: str
    serving: EventEngineServingServing


class EventHostCrashed(TypedDict):
    type: Literal["host.crashed"]
    engine: str
    message: str


class EventLiveDeleted(TypedDict):
    type: Literal["live.deleted"]
    id: str
    message: str


class EventLiveReplaced(TypedDict):
    type: Literal["live.replaced"]
    id: str
    message: str


class EventJobChanged(TypedDict):
    type: Literal["job.changed"]
    job: Job


class EventJobMany(TypedDict):
    type: Literal["job.many"]
    queued: int
    running: int
    ended: int


Event = (
    EventArrivalSettled
    | EventArrivalRefused
    | EventCatalogChanged
    | EventDeltaReady
    | EventDeltaFailed
    | EventRefitStarted
    | EventRefitCommitted
    | EventRefitFailed
    | EventEngineState
    | EventEngineServing
    | EventHostCrashed
    | EventLiveDeleted
    | EventLiveReplaced
    | EventJobChanged
    | EventJobMany
)


class StampedEvent(TypedDict):
    atMs: float
    at: str
    event: Event


EventNotification = StampedEvent


class _EventsHistoryParams(TypedDict):
    topics: list[Literal["arrival", "catalog", "delta", "refit", "engine", "host", "live", "job"]]


class EventsHistoryParams(_EventsHistoryParams, total=False):
    limit: int


class EventsHistoryResult(TypedDict):
    events: list[StampedEvent]


class EventsMissedNotification(TypedDict):
    missed: int


class EventsSubscribeParams(TypedDict):
    topics: list[Literal["arrival", "catalog", "delta", "refit", "engine", "host", "live", "job"]]


EventsSubscribeResult = FoldersRemoveResult


class Folder(TypedDict):
    id: str
    kind: Literal["adapters", "checkpoints"]
    label: str
    entries: int
    problem: Problem | None


class FoldersAddParams(TypedDict):
    path: str
    kind: Literal["adapters", "checkpoints"]


class FoldersAddResult(TypedDict):
    folder: Folder


FoldersListParams = PingParams


class FoldersListResult(TypedDict):
    folders: list[Folder]


class FoldersRemoveParams(TypedDict):
    folder: str


class HelloParamsClient(TypedDict):
    name: str
    version: str


class HelloParamsSegments(TypedDict):
    requestBytes: int
    replyBytes: int


class _HelloParams(TypedDict):
    protocolVersions: list[int]
    client: HelloParamsClient
    capabilities: list[str]


class HelloParams(_HelloParams, total=False):
    segments: HelloParamsSegments


class Segment(TypedDict):
    index: int
    path: str
    bytes: int


class HelloResultServer(TypedDict):
    name: str
    version: str


class HelloResultLimits(TypedDict):
    messageBytes: int
    inFlight: int
    conditioningBytes: int
    pushBytes: int


class HelloResultSegments(TypedDict):
    request: Segment
    reply: Segment


class HelloResult(TypedDict):
    protocolVersion: int
    server: HelloResultServer
    session: str
    role: Literal["read", "control"]
    capabilities: list[Literal["segments", "events", "push", "memory"]]
    limits: HelloResultLimits
    segments: HelloResultSegments | None


class JobsCancelParams(TypedDict):
    job: str


class JobsCancelResult(TypedDict):
    cancelled: bool


class JobsListParams(TypedDict, total=False):
    ids: list[str]


class JobsListResult(TypedDict):
    jobs: list[Job]
    queued: int


JobsPauseParams = PingParams


class JobsPauseResult(TypedDict):
    paused: bool


JobsResumeParams = PingParams


class JobsResumeResult(TypedDict):
    paused: bool


class MemoryFreedParams(TypedDict):
    request: int | str
    bytes: int


MemoryFreedResult = FoldersRemoveResult


class MemoryWantedNotification(TypedDict):
    request: int | str
    bytes: int


class PingResult(TypedDict):
    pass


class PreviewNotification(TypedDict):
    request: int | str
    done: int
    total: int
    tensors: list[TensorDescriptor]


class ProgressNotification(TypedDict):
    request: int | str
    stage: str
    done: float
    total: float
    remainingMs: float | None
    text: str


class SegmentsCloseParams(TypedDict):
    segment: int


class SegmentsCloseResult(TypedDict):
    pass


class _SegmentsConfirmParams(TypedDict):
    proof: str


class SegmentsConfirmParams(_SegmentsConfirmParams, total=False):
    segment: int


class SegmentsConfirmResult(TypedDict):
    enabled: bool


class SegmentsOpenParams(TypedDict):
    lease: str
    medium: Literal["cuda-ipc", "memfd"]
    device: str
    bytes: int


class SegmentsOpenResult(TypedDict):
    segment: DeviceSegment | None
    reason: str | None


SettingsListParams = PingParams


class SettingsListResultSetting(TypedDict):
    name: str
    value: str | None
    changed: bool
    reload: bool
    help: str


class SettingsListResult(TypedDict):
    settings: list[SettingsListResultSetting]


StatusParams = PingParams


class StatusResultWatch(TypedDict):
    paused: bool
    folders: int


class StatusResultCatalog(TypedDict):
    generation: int
    adapters: int
    checkpoints: int
    problems: int
    deltasReady: int


class StatusResultHost(TypedDict):
    kind: str
    available: bool
    device: str | None
    pid: int | None
    restarts: int
    problem: Problem | None


class StatusResultDeviceMemory(TypedDict):
    totalBytes: int
    freeBytes: int


class StatusResultDevice(TypedDict):
    name: str
    hardware: str | None
    state: Literal["idle", "up", "down", "slow"]
    pids: list[int]
    restarts: int
    problem: str | None
    runs: int
    waiting: int
    engines: int
    enginesBytes: int
    tiers: list[str]
    memory: StatusResultDeviceMemory | None


class StatusResultTotals(TypedDict):
    engineBuilds: int
    sessionLoads: int
    refits: int
    steps: int


class StatusResultLive(TypedDict):
    engine: str | None
    weights: Weights | None
    problem: Problem | None


class StatusResultJobs(TypedDict):
    queued: int
    running: int
    paused: bool
    remainingMs: float | None


class StatusResultMemory(TypedDict):
    processBytes: int
    enginesBytes: int
    budgetBytes: int


class StatusResultDeviceSegments(TypedDict):
    count: int
    bytes: int


class StatusResult(TypedDict):
    version: str
    startedAt: str
    uptimeMs: float
    watch: StatusResultWatch
    catalog: StatusResultCatalog
    hosts: list[StatusResultHost]
    devices: list[StatusResultDevice]
    totals: StatusResultTotals
    engines: list[EngineInfo]
    live: StatusResultLive | None
    jobs: StatusResultJobs
    memory: StatusResultMemory
    clients: int
    deviceSegments: StatusResultDeviceSegments


TelemetryFiguresParams = PingParams


class TelemetryFiguresResultFigureBucket(TypedDict):
    upToMs: float | None
    count: int


class TelemetryFiguresResultFigure(TypedDict):
    name: Literal["step", "wait", "refit", "swap"]
    count: int
    p50Ms: float | None
    p95Ms: float | None
    p99Ms: float | None
    buckets: list[TelemetryFiguresResultFigureBucket]


class TelemetryFiguresResult(TypedDict):
    figures: list[TelemetryFiguresResultFigure]


class TelemetryLogParams(TypedDict, total=False):
    limit: int


class TelemetryLogResultLine(TypedDict):
    at: str
    level: Literal["error", "warn", "info", "debug"]
    text: str


class TelemetryLogResult(TypedDict):
    lines: list[TelemetryLogResultLine]


WatchPauseParams = PingParams


class WatchPauseResult(TypedDict):
    paused: bool


WatchResumeParams = PingParams


class WatchResumeResult(TypedDict):
    paused: bool


class Method(NamedTuple):
    #: "read" or "control": the token it needs.
    role: str
    #: "none", "in", "out" or "both": which way tensors travel.
    tensors: str


METHODS: dict[str, Method] = {
    "hello": Method("read", "none"),
    "cancel": Method("read", "none"),
    "ping": Method("read", "none"),
    "segments.confirm": Method("read", "none"),
    "segments.open": Method("control", "none"),
    "segments.close": Method("control", "none"),
    "catalog.list": Method("read", "none"),
    "catalog.get": Method("read", "none"),
    "catalog.notes": Method("read", "none"),
    "catalog.preview": Method("read", "none"),
    "adapter.layers": Method("read", "none"),
    "adapter.find": Method("read", "none"),
    "adapter.push": Method("control", "in"),
    "folders.list": Method("read", "none"),
    "folders.add": Method("control", "none"),
    "folders.remove": Method("control", "none"),
    "watch.pause": Method("control", "none"),
    "watch.resume": Method("control", "none"),
    "engine.restack": Method("control", "none"),
    "engine.draw": Method("control", "none"),
    "engine.history": Method("read", "none"),
    "engine.prepare": Method("control", "none"),
    "engine.ahead": Method("control", "none"),
    "engine.release": Method("control", "none"),
    "engine.warm": Method("control", "none"),
    "engine.list": Method("read", "none"),
    "engine.refit": Method("control", "none"),
    "engine.rebuild": Method("control", "none"),
    "engine.free": Method("control", "none"),
    "conditioning.put": Method("control", "in"),
    "conditioning.drop": Method("control", "none"),
    "engine.step": Method("control", "both"),
    "device.restart": Method("control", "none"),
    "engine.sample": Method("control", "both"),
    "jobs.list": Method("read", "none"),
    "jobs.cancel": Method("control", "none"),
    "jobs.pause": Method("control", "none"),
    "jobs.resume": Method("control", "none"),
    "events.subscribe": Method("read", "none"),
    "events.history": Method("read", "none"),
    "memory.freed": Method("control", "none"),
    "status": Method("read", "none"),
    "telemetry.figures": Method("read", "none"),
    "telemetry.log": Method("read", "none"),
    "settings.list": Method("read", "none"),
    "cache.list": Method("read", "none"),
}

NOTIFICATIONS = ("progress", "preview", "event", "events.missed", "memory.wanted")


class ErrorEntry(NamedTuple):
    rpc: int
    #: "client", "sidecar", "host" or "file": who can act.
    fault: str
    summary: str
    remedy: str


ERRORS: dict[str, ErrorEntry] = {
    "FRAME_BAD_MAGIC": ErrorEntry(
        4001,
        "client",
        "The bytes do not start with the tensor frame's magic.",
        "Send JSON as text and tensor frames (RFT1) as binary.",
    ),
    "FRAME_BAD_VERSION": ErrorEntry(
        4002,
        "client",
        "The tensor frame has a version that is not spoken here.",
        "Update the older side.",
    ),
    "FRAME_RESERVED_SET": ErrorEntry(
        4003,
        "client",
        "A reserved byte of the frame is not zero.",
        "Zero all reserved bytes.",
    ),
    "FRAME_HEADER_TOO_LARGE": ErrorEntry(
        4004,
        "client",
        "The frame's header is larger than allowed.",
        "Send fewer tensors per frame.",
    ),
    "FRAME_PAYLOAD_TOO_LARGE": ErrorEntry(
        4005,
        "client",
        "The frame's payload is larger than allowed.",
        "Send large tensors in several calls or through a segment.",
    ),
    "FRAME_TRUNCATED": ErrorEntry(
        4006,
        "client",
        "The frame's length is not the one it declares.",
        "Send one whole frame per message.",
    ),
    "FRAME_HEADER_INVALID": ErrorEntry(
        4007,
        "client",
        "The frame's header is not one JSON-RPC object in UTF-8, padded with zeros.",
        "Send one JSON-RPC 2.0 object.",
    ),
    "FRAME_TENSOR_INVALID": ErrorEntry(
        4008,
        "client",
        "A tensor descriptor is wrong, or does not agree with the payload.",
        "Pack named tensors in order, each on a multiple of 64.",
    ),
    "RPC_INVALID": ErrorEntry(
        -32600,
        "client",
        "The message is not a JSON-RPC 2.0 call, notification or reply.",
        "Send one JSON-RPC 2.0 object per message; no batches.",
    ),
    "WIRE_JSON_INVALID": ErrorEntry(
        -32700,
        "client",
        "The text message is not one JSON object.",
        "Send one JSON object per text message.",
    ),
    "WIRE_METHOD_UNKNOWN": ErrorEntry(
        -32601,
        "client",
        "There is no such method.",
        "Compare the versions of plugin and sidecar; update the older one.",
    ),
    "WIRE_PARAMS_INVALID": ErrorEntry(
        -32602,
        "client",
        "The params do not fit the method's schema.",
        "Correct the field that the text names (protocol/generated/schema.json).",
    ),
    "WIRE_INTERNAL": ErrorEntry(
        -32603,
        "sidecar",
        "The sidecar failed in a way that it did not expect.",
        "See the sidecar's log at the same time; report it with that line.",
    ),
    "WIRE_HELLO_REQUIRED": ErrorEntry(
        4101,
        "client",
        "A call came before hello.",
        "Say hello first.",
    ),
    "WIRE_HELLO_REPEATED": ErrorEntry(
        4102,
        "client",
        "hello was said twice.",
        "Open a new connection to negotiate again.",
    ),
    "WIRE_VERSION_UNSUPPORTED": ErrorEntry(
        4103,
        "client",
        "Plugin and sidecar share no protocol version.",
        "Update the older of the two.",
    ),
    "WIRE_ID_IN_USE": ErrorEntry(
        4104,
        "client",
        "A call with this id has not been answered yet.",
        "Give each call its own id.",
    ),
    "WIRE_BUSY": ErrorEntry(
        4105,
        "client",
        "Too many calls of this session wait for an answer.",
        "Wait for answers before sending more.",
    ),
    "WIRE_CANCELLED": ErrorEntry(
        4106,
        "client",
        "The call was cancelled.",
        "None; engines are in a consistent state.",
    ),
    "WIRE_TENSORS_MISPLACED": ErrorEntry(
        4107,
        "client",
        "Tensors came with a call that takes none, or in a text frame without a segment.",
        "Send tensors in a binary frame or a negotiated segment, with a method that takes them.",
    ),
    "WIRE_SHUTTING_DOWN": ErrorEntry(
        5101,
        "sidecar",
        "The sidecar is ending.",
        "Connect again when it is back.",
    ),
    "WIRE_UNAUTHORIZED": ErrorEntry(
        4201,
        "client",
        "The token is missing or wrong.",
        "Read the token of the running sidecar from sidecar.json and send it as `Authorization: Bearer`.",
    ),
    "WIRE_ROLE": ErrorEntry(
        4202,
        "client",
        "This token may only read.",
        "Use the control token for calls that change something.",
    ),
    "WIRE_HOST_FORBIDDEN": ErrorEntry(
        4203,
        "client",
        "The Host header names no address that the sidecar answers for.",
        "Use the url in sidecar.json, or start the sidecar with --allow-host.",
    ),
    "WIRE_ORIGIN_FORBIDDEN": ErrorEntry(
        4204,
        "client",
        "A page of another origin may not connect.",
        "Start the sidecar with --allow-origin for an origin that you trust.",
    ),
    "WIRE_BODY_REFUSED": ErrorEntry(
        4205,
        "client",
        "Only small JSON bodies (application/json) are read.",
        "Send application/json.",
    ),
    "WIRE_TICKET_INVALID": ErrorEntry(
        4206,
        "client",
        "The ticket was used already, has expired, or never existed.",
        "Ask for a new one, or paste the token.",
    ),
    "WIRE_CLIENTS_FULL": ErrorEntry(
        4207,
        "client",
        "As many clients are connected as the sidecar allows.",
        "Close one, or raise --max-clients.",
    ),
    "WIRE_SEGMENT_REFUSED": ErrorEntry(
        4301,
        "client",
        "A tensor names a segment that this session does not have, or a range outside it.",
        "Use the segments that hello gave, or send tensors in the frame.",
    ),
    "WIRE_SEGMENT_SHORT": ErrorEntry(
        4302,
        "client",
        "A segment holds fewer bytes than a tensor in it claims.",
        "Write the tensor before the call; open a new session if the file was cut.",
    ),
    "WIRE_SEGMENT_FAILED": ErrorEntry(
        5301,
        "sidecar",
        "The sidecar could not read or write a segment.",
        "Send tensors in frames; free memory on the memory file system.",
    ),
    "WIRE_SEGMENT_STALE": ErrorEntry(
        4308,
        "client",
        "A step names a device segment that the engine's host does not have (any more): the host was restarted, or the run moved.",
        "Send the step's tensors in another way, and open a new device segment.",
    ),
    "WIRE_CONDITIONING_UNKNOWN": ErrorEntry(
        4303,
        "client",
        "No tensor is kept under this key; it was never put, dropped, or pushed out by newer ones.",
        "Put it again and repeat the step.",
    ),
    "WIRE_CONDITIONING_TOO_LARGE": ErrorEntry(
        4304,
        "client",
        "The tensors exceed what the sidecar keeps for one session.",
        "Send them with the step.",
    ),
    "WIRE_LEASE_UNKNOWN": ErrorEntry(
        4305,
        "client",
        "The lease has ended or never was this session's.",
        "Prepare again.",
    ),
    "WIRE_PUSH_TOO_LARGE": ErrorEntry(
        4306,
        "client",
        "A pushed adapter is larger than allowed, or too many are unfinished.",
        "Put the file into a watched folder.",
    ),
    "WIRE_PUSH_INVALID": ErrorEntry(
        4307,
        "client",
        "A pushed adapter has no tensors, or a name twice.",
        "Send each tensor of the file once, under its own key.",
    ),
    "WIRE_PUSH_FAILED": ErrorEntry(
        5302,
        "sidecar",
        "A pushed adapter could not be stored.",
        "Free space in the data folder.",
    ),
    "CATALOG_ENTRY_UNKNOWN": ErrorEntry(
        4401,
        "client",
        "The catalog has no such entry.",
        "List the catalog again; the file may have been renamed or removed.",
    ),
    "CATALOG_FOLDER_REFUSED": ErrorEntry(
        4402,
        "client",
        "The folder cannot be watched: expected an absolute path of a folder that can be read.",
        "Give the absolute path of an existing folder.",
    ),
    "CATALOG_FOLDER_UNKNOWN": ErrorEntry(
        4403,
        "client",
        "No watched folder has this id.",
        "List the folders again.",
    ),
    "CATALOG_FAILED": ErrorEntry(
        7401,
        "file",
        "A file in the catalog cannot be used.",
        "See the entry's problem; download or export the file again.",
    ),
    "DELTA_FAILED": ErrorEntry(
        7402,
        "file",
        "An adapter cannot be turned into a delta for this checkpoint.",
        "See the entry's problem and `refit-sidecar inspect`.",
    ),
    "PLAN_STACK_REFUSED": ErrorEntry(
        4404,
        "client",
        "This stack cannot go onto this checkpoint.",
        "Use adapters of the checkpoint's family.",
    ),
    "ENGINE_UNKNOWN": ErrorEntry(
        4405,
        "client",
        "No engine has this id.",
        "List the engines again.",
    ),
    "ENGINE_DEVICE_UNKNOWN": ErrorEntry(
        4410,
        "client",
        "No device has this name.",
        "Take one that `status` lists.",
    ),
    "ENGINE_UNSUPPORTED": ErrorEntry(
        6401,
        "host",
        "No engine host here can serve this structure or precision.",
        "Use the UI's own path; `refit-sidecar doctor` tells what is missing.",
    ),
    "ENGINE_OUT_OF_MEMORY": ErrorEntry(
        6402,
        "host",
        "The engine does not fit into the device's memory.",
        "Unload other models, or choose a smaller precision.",
    ),
    "ENGINE_FAILED": ErrorEntry(
        6403,
        "host",
        "The engine host failed or ended; it is restarted by itself.",
        "Prepare again; use the UI's own path meanwhile.",
    ),
    "REFIT_FAILED": ErrorEntry(
        6404,
        "host",
        "The refit failed; the old weights still serve whoever holds a lease on them.",
        "Prepare again; remove the adapter that the text names.",
    ),
    "STEP_INPUT_INVALID": ErrorEntry(
        4406,
        "client",
        "The step's tensors do not fit the engine's inputs.",
        "Send the inputs that prepare listed.",
    ),
    "STEP_FAILED": ErrorEntry(
        6405,
        "host",
        "The engine failed while it ran the step.",
        "Prepare again; use the UI's own path meanwhile.",
    ),
    "SAMPLE_INVALID": ErrorEntry(
        4408,
        "client",
        "The schedule, the latents or the conditioning of the request do not fit the model.",
        "Correct the field or tensor that the text names (docs/use/scripts.md).",
    ),
    "SAMPLE_DEADLINE": ErrorEntry(
        4409,
        "client",
        "The pictures were not made in the time that the call gave; the loop was ended.",
        "Give more time, ask for fewer steps, or send fewer loops at once.",
    ),
    "SAMPLE_NON_FINITE": ErrorEntry(
        6406,
        "host",
        "The model's answers became NaN or infinite.",
        "Choose another precision (bf16 or fp32), a lower cfg, or fewer adapters.",
    ),
    "JOB_UNKNOWN": ErrorEntry(
        4407,
        "client",
        "No job has this id.",
        "List the jobs again.",
    ),
}


class OwnError(NamedTuple):
    summary: str
    remedy: str


#: Codes that arise on the client's side of the wire.
CLIENT_ERRORS: dict[str, OwnError] = {
    "CLIENT_NOT_RUNNING": OwnError(
        "No sidecar is running.",
        "Start it (refit-sidecar serve), or set REFIT_DATA_DIR to its data folder.",
    ),
    "CLIENT_CANNOT_START": OwnError(
        "The sidecar could not be started.",
        "The text has the reason; `refit-sidecar doctor` checks the computer.",
    ),
    "CLIENT_DISCOVERY": OwnError(
        "sidecar.json is damaged.",
        "Stop the sidecar, remove the file and start it again.",
    ),
    "CLIENT_DISCOVERY_UNSAFE": OwnError(
        "sidecar.json is not only this user's.",
        "Remove the file and start the sidecar again as this user.",
    ),
    "CLIENT_CONNECT_FAILED": OwnError(
        "The sidecar could not be reached.",
        "See whether it still runs; it may have been restarted.",
    ),
    "CLIENT_REFUSED": OwnError(
        "The sidecar refused the connection.",
        "Restart the sidecar; update plugin and sidecar to the same version.",
    ),
    "CLIENT_CONNECTION_LOST": OwnError(
        "The connection to the sidecar was lost before it answered.",
        "Prepare again; the sidecar may have been restarted.",
    ),
    "CLIENT_TIMEOUT": OwnError(
        "The sidecar did not answer in time.",
        "See the sidecar's log; it may be busy building an engine.",
    ),
    "CLIENT_INTERRUPTED": OwnError(
        "The call was interrupted here.",
        "None.",
    ),
    "CLIENT_PROTOCOL": OwnError(
        "The sidecar sent something that is not the protocol.",
        "Update plugin and sidecar to the same version.",
    ),
    "CLIENT_LIBRARY_MISSING": OwnError(
        "The Python package websockets (11 or newer) is missing.",
        "Install the plugin's requirements.txt into the UI's Python.",
    ),
    "CLIENT_CLOSED": OwnError(
        "The client was closed.",
        "Make a new one.",
    ),
}
