// The declared table of errors that may cross a boundary. A code is stable for ever; its number is the JSON-RPC `error.code`, its name is `error.data.code`.
// `client` codes say that the caller must change something; the others never blame the caller. Codes that are not in this table stay inside
// the sidecar: they reach a client as the nearest declared code of the same stage, without their text.
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
  FRAME_BAD_MAGIC: { rpc: 4001, fault: "client", summary: "The bytes do not start with the tensor frame's magic.", remedy: "Send JSON as text and tensor frames (RFT1) as binary." },
  FRAME_BAD_VERSION: { rpc: 4002, fault: "client", summary: "The tensor frame has a version that is not spoken here.", remedy: "Update the older side." },
  FRAME_RESERVED_SET: { rpc: 4003, fault: "client", summary: "A reserved byte of the frame is not zero.", remedy: "Zero all reserved bytes." },
  FRAME_HEADER_TOO_LARGE: { rpc: 4004, fault: "client", summary: "The frame's header is larger than allowed.", remedy: "Send fewer tensors per frame." },
  FRAME_PAYLOAD_TOO_LARGE: { rpc: 4005, fault: "client", summary: "The frame's payload is larger than allowed.", remedy: "Send large tensors in several calls or through a segment." },
  FRAME_TRUNCATED: { rpc: 4006, fault: "client", summary: "The frame's length is not the one it declares.", remedy: "Send one whole frame per message." },
  FRAME_HEADER_INVALID: { rpc: 4007, fault: "client", summary: "The frame's header is not one JSON-RPC object in UTF-8, padded with zeros.", remedy: "Send one JSON-RPC 2.0 object." },
  FRAME_TENSOR_INVALID: { rpc: 4008, fault: "client", summary: "A tensor descriptor is wrong, or does not agree with the payload.", remedy: "Pack named tensors in order, each on a multiple of 64." },

  // Messages: well-formed bytes that are not a call we know.
  RPC_INVALID: { rpc: -32600, fault: "client", summary: "The message is not a JSON-RPC 2.0 call, notification or reply.", remedy: "Send one JSON-RPC 2.0 object per message; no batches." },
} as const satisfies Readonly<Record<string, ErrorEntry>>;

export type ErrorCode = keyof typeof errorTable;

/** An error that this package raises itself (frames, messages). `evidence` holds plain values for logs and `error.data`. */
export class ProtocolError extends Error {
  readonly code: ErrorCode;
  readonly evidence: Readonly<Record<string, unknown>>;
  override readonly name = "ProtocolError";
  constructor(code: ErrorCode, message: string, evidence: Readonly<Record<string, unknown>> = {}) {
    super(message);
    this.code = code;
    this.evidence = evidence;
  }
}

export function isErrorCode(code: string): code is ErrorCode {
  return Object.hasOwn(errorTable, code);
}
