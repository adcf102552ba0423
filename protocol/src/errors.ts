// The declared table of errors that may cross a boundary. A code is stable for ever; its number is the JSON-RPC `error.code`, its name is `error.data.code`.
// `client` codes say that the caller must change something; the others never blame the caller. A code that is not in this table stays inside the sidecar:
// it reaches a client as `data.reason` of the declared code of its stage.
//
// Numbers: JSON-RPC's own for its five cases; otherwise 4xxx client, 5xxx sidecar, 6xxx engine host, 7xxx a file on disk.

/** Who can act: the caller, the sidecar's operator, the engine host (usually by itself: restart or fall back), or whoever owns the file. */
export type Fault = "client" | "sidecar" | "host" | "file";

export interface ErrorEntry {
  /** JSON-RPC `error.code`. */
  readonly rpc: number;
  readonly fault: Fault;
  /** What went wrong, in one sentence. The text a client gets when the sidecar's own text must not leave it. */
  readonly summary: string;
  /** What to do about it. */
  readonly remedy: string;
}

export const errorTable = {
  // Frames: the bytes are not a tensor frame.
  FRAME_BAD_MAGIC: {
    rpc: 4001,
    fault: "client",
    summary: "The bytes do not start with the tensor frame's magic.",
    remedy: "Send JSON as text and tensor frames (RFT1) as binary.",
  },
  FRAME_BAD_VERSION: {
    rpc: 4002,
    fault: "client",
    summary: "The tensor frame has a version that is not spoken here.",
    remedy: "Update the older side.",
  },
  FRAME_RESERVED_SET: {
    rpc: 4003,
    fault: "client",
    summary: "A reserved byte of the frame is not zero.",
    remedy: "Zero all reserved bytes.",
  },
  FRAME_HEADER_TOO_LARGE: {
    rpc: 4004,
    fault: "client",
    summary: "The frame's header is larger than allowed.",
    remedy: "Send fewer tensors per frame.",
  },
  FRAME_PAYLOAD_TOO_LARGE: {
    rpc: 4005,
    fault: "client",
    summary: "The frame's payload is larger than allowed.",
    remedy: "Send large tensors in several calls or through a segment.",
  },
  FRAME_TRUNCATED: {
    rpc: 4006,
    fault: "client",
    summary: "The frame's length is not the one it declares.",
    remedy: "Send one whole frame per message.",
  },
  FRAME_HEADER_INVALID: {
    rpc: 4007,
    fault: "client",
    summary: "The frame's header is not one JSON-RPC object in UTF-8, padded with zeros.",
    remedy: "Send one JSON-RPC 2.0 object.",
  },
  FRAME_TENSOR_INVALID: {
    rpc: 4008,
    fault: "client",
    summary: "A tensor descriptor is wrong, or does not agree with the payload.",
    remedy: "Pack named tensors in order, each on a multiple of 64.",
  },

  // Messages and session.
  RPC_INVALID: {
    rpc: -32600,
    fault: "client",
    summary: "The message is not a JSON-RPC 2.0 call, notification or reply.",
    remedy: "Send one JSON-RPC 2.0 object per message; no batches.",
  },
  WIRE_JSON_INVALID: {
    rpc: -32700,
    fault: "client",
    summary: "The text message is not one JSON object.",
    remedy: "Send one JSON object per text message.",
  },
  WIRE_METHOD_UNKNOWN: {
    rpc: -32601,
    fault: "client",
    summary: "There is no such method.",
    remedy: "Compare the versions of plugin and sidecar; update the older one.",
  },
  WIRE_PARAMS_INVALID: {
    rpc: -32602,
    fault: "client",
    summary: "The params do not fit the method's schema.",
    remedy: "Correct the field that the text names (protocol/generated/schema.json).",
  },
  WIRE_INTERNAL: {
    rpc: -32603,
    fault: "sidecar",
    summary: "The sidecar failed in a way that it did not expect.",
    remedy: "See the sidecar's log at the same time; report it with that line.",
  },
  WIRE_HELLO_REQUIRED: { rpc: 4101, fault: "client", summary: "A call came before hello.", remedy: "Say hello first." },
  WIRE_HELLO_REPEATED: {
    rpc: 4102,
    fault: "client",
    summary: "hello was said twice.",
    remedy: "Open a new connection to negotiate again.",
  },
  WIRE_VERSION_UNSUPPORTED: {
    rpc: 4103,
    fault: "client",
    summary: "Plugin and sidecar share no protocol version.",
    remedy: "Update the older of the two.",
  },
  WIRE_ID_IN_USE: {
    rpc: 4104,
    fault: "client",
    summary: "A call with this id has not been answered yet.",
    remedy: "Give each call its own id.",
  },
  WIRE_BUSY: {
    rpc: 4105,
    fault: "client",
    summary: "Too many calls of this session wait for an answer.",
    remedy: "Wait for answers before sending more.",
  },
  WIRE_CANCELLED: { rpc: 4106, fault: "client", summary: "The call was cancelled.", remedy: "None; engines are in a consistent state." },
  WIRE_TENSORS_MISPLACED: {
    rpc: 4107,
    fault: "client",
    summary: "Tensors came with a call that takes none, or in a text frame without a segment.",
    remedy: "Send tensors in a binary frame or a negotiated segment, with a method that takes them.",
  },
  WIRE_SHUTTING_DOWN: { rpc: 5101, fault: "sidecar", summary: "The sidecar is ending.", remedy: "Connect again when it is back." },

  // Who may connect and call.
  WIRE_UNAUTHORIZED: {
    rpc: 4201,
    fault: "client",
    summary: "The token is missing or wrong.",
    remedy: "Read the token of the running sidecar from sidecar.json and send it as `Authorization: Bearer`.",
  },
  WIRE_ROLE: {
    rpc: 4202,
    fault: "client",
    summary: "This token may only read.",
    remedy: "Use the control token for calls that change something.",
  },
  WIRE_HOST_FORBIDDEN: {
    rpc: 4203,
    fault: "client",
    summary: "The Host header names no address that the sidecar answers for.",
    remedy: "Use the url in sidecar.json, or start the sidecar with --allow-host.",
  },
  WIRE_ORIGIN_FORBIDDEN: {
    rpc: 4204,
    fault: "client",
    summary: "A page of another origin may not connect.",
    remedy: "Start the sidecar with --allow-origin for an origin that you trust.",
  },
  WIRE_BODY_REFUSED: {
    rpc: 4205,
    fault: "client",
    summary: "Only small JSON bodies (application/json) are read.",
    remedy: "Send application/json.",
  },
  WIRE_TICKET_INVALID: {
    rpc: 4206,
    fault: "client",
    summary: "The ticket was used already, has expired, or never existed.",
    remedy: "Ask for a new one, or paste the token.",
  },
  WIRE_CLIENTS_FULL: {
    rpc: 4207,
    fault: "client",
    summary: "As many clients are connected as the sidecar allows.",
    remedy: "Close one, or raise --max-clients.",
  },

  // Segments, conditioning, leases, pushes.
  WIRE_SEGMENT_REFUSED: {
    rpc: 4301,
    fault: "client",
    summary: "A tensor names a segment that this session does not have, or a range outside it.",
    remedy: "Use the segments that hello gave, or send tensors in the frame.",
  },
  WIRE_SEGMENT_SHORT: {
    rpc: 4302,
    fault: "client",
    summary: "A segment holds fewer bytes than a tensor in it claims.",
    remedy: "Write the tensor before the call; open a new session if the file was cut.",
  },
  WIRE_SEGMENT_FAILED: {
    rpc: 5301,
    fault: "sidecar",
    summary: "The sidecar could not read or write a segment.",
    remedy: "Send tensors in frames; free memory on the memory file system.",
  },
  WIRE_SEGMENT_STALE: {
    rpc: 4308,
    fault: "client",
    summary: "A step names a device segment that the engine's host does not have (any more): the host was restarted, or the run moved.",
    remedy: "Send the step's tensors in another way, and open a new device segment.",
  },
  WIRE_CONDITIONING_UNKNOWN: {
    rpc: 4303,
    fault: "client",
    summary: "No tensor is kept under this key; it was never put, dropped, or pushed out by newer ones.",
    remedy: "Put it again and repeat the step.",
  },
  WIRE_CONDITIONING_TOO_LARGE: {
    rpc: 4304,
    fault: "client",
    summary: "The tensors exceed what the sidecar keeps for one session.",
    remedy: "Send them with the step.",
  },
  WIRE_LEASE_UNKNOWN: { rpc: 4305, fault: "client", summary: "The lease has ended or never was this session's.", remedy: "Prepare again." },
  WIRE_PUSH_TOO_LARGE: {
    rpc: 4306,
    fault: "client",
    summary: "A pushed adapter is larger than allowed, or too many are unfinished.",
    remedy: "Put the file into a watched folder.",
  },
  WIRE_PUSH_INVALID: {
    rpc: 4307,
    fault: "client",
    summary: "A pushed adapter has no tensors, or a name twice.",
    remedy: "Send each tensor of the file once, under its own key.",
  },
  WIRE_PUSH_FAILED: {
    rpc: 5302,
    fault: "sidecar",
    summary: "A pushed adapter could not be stored.",
    remedy: "Free space in the data folder.",
  },

  // What a call names.
  CATALOG_ENTRY_UNKNOWN: {
    rpc: 4401,
    fault: "client",
    summary: "The catalog has no such entry.",
    remedy: "List the catalog again; the file may have been renamed or removed.",
  },
  CATALOG_FOLDER_REFUSED: {
    rpc: 4402,
    fault: "client",
    summary: "The folder cannot be watched: expected an absolute path of a folder that can be read.",
    remedy: "Give the absolute path of an existing folder.",
  },
  CATALOG_FOLDER_UNKNOWN: { rpc: 4403, fault: "client", summary: "No watched folder has this id.", remedy: "List the folders again." },
  CATALOG_FAILED: {
    rpc: 7401,
    fault: "file",
    summary: "A file in the catalog cannot be used.",
    remedy: "See the entry's problem; download or export the file again.",
  },
  DELTA_FAILED: {
    rpc: 7402,
    fault: "file",
    summary: "An adapter cannot be turned into a delta for this checkpoint.",
    remedy: "See the entry's problem and `refit-sidecar inspect`.",
  },
  PLAN_STACK_REFUSED: {
    rpc: 4404,
    fault: "client",
    summary: "This stack cannot go onto this checkpoint.",
    remedy: "Use adapters of the checkpoint's family.",
  },
  ENGINE_UNKNOWN: { rpc: 4405, fault: "client", summary: "No engine has this id.", remedy: "List the engines again." },
  ENGINE_DEVICE_UNKNOWN: { rpc: 4410, fault: "client", summary: "No device has this name.", remedy: "Take one that `status` lists." },
  ENGINE_UNSUPPORTED: {
    rpc: 6401,
    fault: "host",
    summary: "No engine host here can serve this structure or precision.",
    remedy: "Use the UI's own path; `refit-sidecar doctor` tells what is missing.",
  },
  ENGINE_OUT_OF_MEMORY: {
    rpc: 6402,
    fault: "host",
    summary: "The engine does not fit into the device's memory.",
    remedy: "Unload other models, or choose a smaller precision.",
  },
  ENGINE_FAILED: {
    rpc: 6403,
    fault: "host",
    summary: "The engine host failed or ended; it is restarted by itself.",
    remedy: "Prepare again; use the UI's own path meanwhile.",
  },
  REFIT_FAILED: {
    rpc: 6404,
    fault: "host",
    summary: "The refit failed; the old weights still serve whoever holds a lease on them.",
    remedy: "Prepare again; remove the adapter that the text names.",
  },
  STEP_INPUT_INVALID: {
    rpc: 4406,
    fault: "client",
    summary: "The step's tensors do not fit the engine's inputs.",
    remedy: "Send the inputs that prepare listed.",
  },
  STEP_FAILED: {
    rpc: 6405,
    fault: "host",
    summary: "The engine failed while it ran the step.",
    remedy: "Prepare again; use the UI's own path meanwhile.",
  },
  SAMPLE_INVALID: {
    rpc: 4408,
    fault: "client",
    summary: "The schedule, the latents or the conditioning of the request do not fit the model.",
    remedy: "Correct the field or tensor that the text names (docs/use/scripts.md).",
  },
  SAMPLE_DEADLINE: {
    rpc: 4409,
    fault: "client",
    summary: "The pictures were not made in the time that the call gave; the loop was ended.",
    remedy: "Give more time, ask for fewer steps, or send fewer loops at once.",
  },
  SAMPLE_NON_FINITE: {
    rpc: 6406,
    fault: "host",
    summary: "The model's answers became NaN or infinite.",
    remedy: "Choose another precision (bf16 or fp32), a lower cfg, or fewer adapters.",
  },
  JOB_UNKNOWN: { rpc: 4407, fault: "client", summary: "No job has this id.", remedy: "List the jobs again." },
} as const satisfies Readonly<Record<string, ErrorEntry>>;

export type ErrorCode = keyof typeof errorTable;

/** A message that breaks the protocol. Its text is safe to send: it holds nothing but what the other side sent. */
export class ProtocolError extends Error {
  readonly code: ErrorCode;
  override readonly name = "ProtocolError";
  constructor(code: ErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}

export function isErrorCode(code: string): code is ErrorCode {
  return Object.hasOwn(errorTable, code);
}
