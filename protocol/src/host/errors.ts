// Every error that a host may answer: the JSON-RPC number, what it means and what to do. Disjoint from the wire's codes; the sidecar translates.

export interface HostErrorRow {
  /** JSON-RPC 2.0 error code. */
  readonly number: number;
  readonly meaning: string;
  readonly remedy: string;
}

export const hostErrors = {
  HOST_MALFORMED_FRAME: {
    number: -32700,
    meaning: "The bytes on the pipe are not a frame; the host answers without an id and exits.",
    remedy: "Restart the host; report the version of both sides.",
  },
  HOST_INVALID_REQUEST: {
    number: -32600,
    meaning: "The frame holds no JSON-RPC 2.0 request.",
    remedy: "Send jsonrpc, id, method and params.",
  },
  HOST_UNKNOWN_METHOD: { number: -32601, meaning: "The host has no such method.", remedy: "Compare the protocol versions." },
  HOST_INVALID_PARAMS: {
    number: -32602,
    meaning: "The params do not fit the method's schema.",
    remedy: "Correct the field that the text names.",
  },
  HOST_INTERNAL: {
    number: -32603,
    meaning: "The host itself failed in a way it did not expect.",
    remedy: "See the host's log; the engine is UNKNOWN until refitted in full.",
  },
  HOST_PROTOCOL_MISMATCH: {
    number: -32001,
    meaning: "hello offered a protocol version that the host does not speak.",
    remedy: "Update the older side.",
  },
  HOST_HELLO_REQUIRED: { number: -32002, meaning: "A call came before hello.", remedy: "Say hello first." },
  HOST_CANCELLED: { number: -32003, meaning: "The call was cancelled.", remedy: "None; nothing live was changed." },
  HOST_SHUTTING_DOWN: { number: -32004, meaning: "The host is ending.", remedy: "Start another host." },
  HOST_ENGINE_UNKNOWN: { number: -32010, meaning: "No engine of that name is loaded.", remedy: "Load it." },
  HOST_ENGINE_EXISTS: { number: -32011, meaning: "An engine of that name is loaded already.", remedy: "Unload it first." },
  HOST_ENGINE_DIRTY: {
    number: -32012,
    meaning: "A commit was cut short; the weights belong to no stack.",
    remedy: "Prepare and commit a full plan.",
  },
  HOST_GRAPH_INVALID: {
    number: -32013,
    meaning: "The graph bundle is missing, damaged or does not fit the checkpoint.",
    remedy: "Export the graph again for this structure.",
  },
  HOST_NO_GRAPH: { number: -32014, meaning: "The engine was loaded without a graph, so it cannot step.", remedy: "Load it with a graph." },
  HOST_PRECISION_UNSUPPORTED: {
    number: -32015,
    meaning: "This host or device cannot hold weights of that dtype.",
    remedy: "Choose one of the precisions in hello.",
  },
  HOST_GENERATION_STALE: {
    number: -32016,
    meaning: "The engine's weights are not those of the generation that the step names.",
    remedy: "Take a new lease and step again.",
  },
  HOST_PLAN_STALE: {
    number: -32017,
    meaning: "The plan starts from weights that the engine no longer holds.",
    remedy: "Plan again from the present generation.",
  },
  HOST_PLAN_INVALID: {
    number: -32018,
    meaning: "Plan and stack do not agree (another stack, or a touched parameter that the plan does not write).",
    remedy: "Plan again from the same delta files.",
  },
  HOST_TOKEN_UNKNOWN: { number: -32019, meaning: "No prepared refit of that token.", remedy: "Prepare again." },
  HOST_PARAMETER_UNKNOWN: {
    number: -32020,
    meaning: "A plan, a delta or a call names a parameter that the engine or the checkpoint lacks.",
    remedy: "The adapter or checkpoint belongs to another structure.",
  },
  HOST_NOT_REFITTABLE: {
    number: -32021,
    meaning: "The refit map says that this engine cannot change a parameter of the plan.",
    remedy: "Rebuild the engine (NEEDS_RECOMPILE).",
  },
  HOST_SHAPE_MISMATCH: {
    number: -32022,
    meaning: "A tensor's shape is not the parameter's.",
    remedy: "The adapter or checkpoint belongs to another structure.",
  },
  HOST_NON_FINITE: {
    number: -32023,
    meaning: "A merged value is NaN or infinite; a live engine refuses it.",
    remedy: "Remove the adapter, or lower its strength.",
  },
  HOST_FILE_MISSING: {
    number: -32030,
    meaning: "A checkpoint or delta file is not there or cannot be read.",
    remedy: "Put the file back, or choose another.",
  },
  HOST_FILE_CHANGED: {
    number: -32031,
    meaning: "A file differs from what was catalogued, or changed while it was read.",
    remedy: "Wait until it is settled and plan again.",
  },
  HOST_FILE_INVALID: { number: -32032, meaning: "A file breaks a rule of its format.", remedy: "Download or export it again." },
  HOST_DELTA_INVALID: {
    number: -32033,
    meaning: "A delta file's metadata or terms are damaged, or belong to another adapter.",
    remedy: "It is rebuilt from the adapter.",
  },
  HOST_OUT_OF_MEMORY: {
    number: -32040,
    meaning: "The engine does not fit into memory.",
    remedy: "Unload another engine, or choose a smaller precision.",
  },
  HOST_LIBRARY_MISSING: {
    number: -32041,
    meaning: "The Python of the tensorrt host has no TensorRT that can be used.",
    remedy: "Run `refit-sidecar host install tensorrt`; the torch host serves without it.",
  },
  HOST_DEVICE_UNSUPPORTED: {
    number: -32042,
    meaning: "The library builds or loads no engine for this device.",
    remedy: "Use the torch host.",
  },
  HOST_BUILD_FAILED: {
    number: -32043,
    meaning: "The library refused to build the engine.",
    remedy: "See the host's log; the torch host serves.",
  },
  HOST_ENGINE_REFUSED: {
    number: -32044,
    meaning: "A new engine's output differs from PyTorch's; it is not used.",
    remedy: "Update the library; the torch host serves.",
  },
  HOST_INPUT_INVALID: {
    number: -32050,
    meaning: "A step's tensors do not fit the graph's inputs.",
    remedy: "Send the inputs that graph.json lists.",
  },
  HOST_STEP_FAILED: {
    number: -32051,
    meaning: "The engine failed while it ran a step.",
    remedy: "See the host's log; the weights are unchanged.",
  },
  HOST_INPUT_FORGOTTEN: {
    number: -32054,
    meaning: "A step uses an input by a key under which the host keeps nothing (any more).",
    remedy: "Send the tensor again.",
  },
  HOST_SEGMENT_REFUSED: {
    number: -32052,
    meaning: "A step names a segment that is no plain file of this user in the folder that hello named.",
    remedy: "Send the tensors in the frame.",
  },
  HOST_SEGMENT_SHORT: {
    number: -32053,
    meaning: "A segment ends before a tensor that should lie in it.",
    remedy: "Write the tensor before the step; open a new session if the file was cut.",
  },
  HOST_SEGMENT_STALE: {
    number: -32055,
    meaning: "A step names a device segment that this host process does not have.",
    remedy: "Send the tensors in another way, and share memory again.",
  },
  HOST_SHARE_REFUSED: {
    number: -32056,
    meaning: "The host shares no memory of its device: another device, another way, or too much of it.",
    remedy: "None needed: tensors travel through segments in files.",
  },
} as const satisfies Record<string, HostErrorRow>;

export type HostErrorCode = keyof typeof hostErrors;

export function isHostErrorCode(code: string): code is HostErrorCode {
  return Object.hasOwn(hostErrors, code);
}
