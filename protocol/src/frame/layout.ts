// Layout, limits and errors of the tensor frame (docs/develop/internals.md, "Tensor frame").

/** Element types that travel in frames, with bytes per element. */
export const tensorDtypes = { f32: 4, f16: 2, bf16: 2, u8: 1, i64: 8 } as const;
export type TensorDtype = keyof typeof tensorDtypes;

/** Where a tensor lies. With `segment` the offset counts from the start of that shared segment, else from the frame's payload. */
export interface TensorDescriptor {
  readonly name: string;
  readonly dtype: TensorDtype;
  readonly shape: readonly number[];
  readonly offset: number;
  readonly bytes: number;
  readonly segment?: number;
}

/** A tensor whose bytes travel in the frame; `data` is row-major little-endian. */
export interface FrameTensor {
  readonly name: string;
  readonly dtype: TensorDtype;
  readonly shape: readonly number[];
  readonly data: Uint8Array;
}

export type JsonObject = { readonly [key: string]: unknown };

export interface Frame {
  readonly message: JsonObject;
  /** Every descriptor of the message, those that lie in a segment included. */
  readonly descriptors: readonly TensorDescriptor[];
  /** Tensors that lie in the frame, in order; views into one buffer whose start is 8-byte aligned. */
  readonly tensors: readonly FrameTensor[];
}

export interface FrameLimits {
  /** JSON header; 64 MiB holds the plan of a model with 100,000 parameters. */
  readonly headerBytes: number;
  /** Tensor data of one frame. */
  readonly payloadBytes: number;
}

export const defaultFrameLimits: FrameLimits = { headerBytes: 64 * 1024 * 1024, payloadBytes: 1024 * 1024 * 1024 };

export const frameErrorCodes = [
  "FRAME_BAD_MAGIC",
  "FRAME_BAD_VERSION",
  "FRAME_RESERVED_SET",
  "FRAME_HEADER_TOO_LARGE",
  "FRAME_PAYLOAD_TOO_LARGE",
  "FRAME_TRUNCATED",
  "FRAME_HEADER_INVALID",
  "FRAME_TENSOR_INVALID",
] as const;
export type FrameErrorCode = (typeof frameErrorCodes)[number];

/** The bytes are not a frame. On a stream nothing after it can be trusted: close the connection. */
export class FrameError extends Error {
  override readonly name = "FrameError";
  readonly code: FrameErrorCode;
  constructor(code: FrameErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}

export const align = 64;
export const prefixBytes = 64;
export const version = 1;
export const maxTensors = 0xffff;
/** ONNX and PyTorch models stay below 8 dimensions; names are parameter names. */
export const maxDimensions = 8;
export const maxNameLength = 512;

export const roundUp = (bytes: number): number => Math.ceil(bytes / align) * align;

export function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Product of the shape times the element size; null when it is not a plain shape or overflows. */
export function tensorBytes(dtype: TensorDtype, shape: readonly number[]): number | null {
  if (shape.length > maxDimensions) return null;
  let bytes: number = tensorDtypes[dtype];
  for (const dimension of shape) {
    if (!Number.isSafeInteger(dimension) || dimension < 0) return null;
    bytes *= dimension;
    if (!Number.isSafeInteger(bytes)) return null;
  }
  return bytes;
}
