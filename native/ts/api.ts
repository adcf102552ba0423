// What the addon (or its TypeScript fallback) offers. Public code sees only this shape; the raw module never leaves `load.ts`.

/** Element types of the safetensors container, as the file spells them. */
export type Dtype =
  | "BOOL"
  | "U8"
  | "I8"
  | "I16"
  | "U16"
  | "I32"
  | "U32"
  | "I64"
  | "U64"
  | "F16"
  | "BF16"
  | "F32"
  | "F64"
  | "F8_E4M3"
  | "F8_E5M2"
  | "F8_E8M0"
  | "F8_E4M3FNUZ"
  | "F8_E5M2FNUZ"
  | "F6_E2M3"
  | "F6_E3M2"
  | "F4"
  | "C64";

/** Dtypes that hold weights or factors. */
export type FloatDtype = "F16" | "BF16" | "F32" | "F64" | "F8_E4M3" | "F8_E5M2";

export interface TensorEntry {
  readonly name: string;
  readonly dtype: Dtype;
  readonly shape: readonly number[];
  /** Byte range relative to the start of the data section. */
  readonly begin: number;
  readonly end: number;
}

/** What a file was when its header was read; any later difference is an error, not a crash. */
export interface FileStamp {
  readonly sizeBytes: number;
  readonly mtimeNs: bigint;
  readonly inode: bigint;
}

export interface Header {
  readonly entries: ReadonlyMap<string, TensorEntry>;
  /** `__metadata__`: string to string; empty when absent. */
  readonly metadata: Readonly<Record<string, string>>;
  /** 8 + N: where the data section begins. */
  readonly dataOffset: number;
  readonly stamp: FileStamp;
}

/** An open tensor file. Holds a descriptor, never a long-lived mapping, so a user can replace the file on Windows. */
export interface TensorFile {
  readonly path: string;
  readonly header: Header;
  /** [worker] Copies one tensor's bytes. Throws SafetensorsError `FILE_CHANGED` or `TRUNCATED` when the file moved under us. */
  read(name: string): Promise<Uint8Array>;
  /** [worker] Copies one tensor's bytes to `target` at `offset` (bytes). */
  readInto(name: string, target: Uint8Array, offset?: number): Promise<void>;
  /** [worker] Fills `target` with one tensor's bytes from `begin` on. Throws RangeError when they are not that many. */
  readPart(name: string, target: Uint8Array, begin: number): Promise<void>;
  /** Throws `FILE_CHANGED` when size, mtime or inode differ from `header.stamp`. */
  checkUnchanged(): Promise<void>;
  close(): Promise<void>;
}

/** Every rule of the container has its own code; texts say what was expected, what came and what to do. */
export type SafetensorsErrorCode =
  | "HEADER_TOO_SMALL"
  | "HEADER_TOO_LARGE"
  | "INVALID_HEADER_LENGTH"
  | "INVALID_HEADER_UTF8"
  | "INVALID_HEADER_START"
  | "INVALID_HEADER_JSON"
  | "DUPLICATE_KEY"
  | "INVALID_METADATA"
  | "TENSOR_INVALID_INFO"
  | "UNKNOWN_DTYPE"
  | "INVALID_OFFSET"
  | "VALIDATION_OVERFLOW"
  | "METADATA_INCOMPLETE_BUFFER"
  | "TOO_MANY_TENSORS"
  | "TRUNCATED"
  | "NOT_SAFETENSORS"
  | "PICKLE_REFUSED"
  | "FILE_CHANGED"
  | "UNREADABLE"
  | "NOT_A_REGULAR_FILE"
  | "TENSOR_NOT_FOUND";

/** One low-rank addend of `W + sum(scale * up * down)`. `up` is [rows, rank], `down` is [rank, cols], both f32 row-major. */
export interface LowRankFactor {
  readonly up: Float32Array;
  readonly down: Float32Array;
  readonly rank: number;
  /** strength * alpha / rank, formed in double, applied as one f32 multiply. */
  readonly scale: number;
}

export interface MergeLowRankJob {
  /** Base values in `baseDtype`, row-major [rows, cols]; never written. */
  readonly base: Uint8Array;
  readonly baseDtype: FloatDtype;
  /** Multiplied onto the base before merging (scaled fp8); 1 otherwise. */
  readonly baseScale?: number;
  /** Receives the merged values in `outDtype`; may be the engine's own buffer. Must not overlap `base` unless equal dtype and same start. */
  readonly out: Uint8Array;
  readonly outDtype: FloatDtype;
  readonly rows: number;
  readonly cols: number;
  readonly factors: readonly LowRankFactor[];
  /** Three sums are added: change^2, change * error, error^2; change is what the factors add, error = out - (base as outDtype holds it) - change. In f64. */
  readonly loss?: Float64Array;
  readonly signal?: AbortSignal;
}

/** How much of a change the stored values have. All arrays have one length. */
export interface LossJob {
  /** Stored without the change; null: `after` holds the error already. */
  readonly before: Float32Array | null;
  readonly change: Float32Array;
  readonly after: Float32Array;
  /** Receives after - before - change; may be `after`. */
  readonly error?: Float32Array;
  /** Three sums are added, as in `MergeLowRankJob.loss`. */
  readonly sums: Float64Array;
}

/** f32 kernels that the term evaluator is built on. All accept row-major data and accumulate in f32. */
export interface Kernels {
  readonly kind: "native" | "fallback";
  /** Why the fallback was chosen, or which instruction set the native code uses. */
  readonly detail: string;
  /** [worker] Base conversion, all addends and one rounding in a single pass; multithreaded. */
  mergeLowRank(job: MergeLowRankJob): Promise<void>;
  /** [worker] Sums that tell what storing a change has kept of it, in f64; multithreaded. */
  lossOf(job: LossJob): Promise<void>;
  /** [worker] out[m,n] (+)= scale * a[m,k] * b[k,n]. */
  matmul(
    a: Float32Array,
    b: Float32Array,
    m: number,
    k: number,
    n: number,
    out: Float32Array,
    scale: number,
    accumulate: boolean,
  ): Promise<void>;
  /** [worker] Converts `count` elements; one round-to-nearest-even for narrower targets, fp8 saturates to +-max (e4m3fn has no inf). */
  convert(source: Uint8Array, from: FloatDtype, target: Uint8Array, to: FloatDtype, count: number, scale?: number): Promise<void>;
  /** [worker] First index of a NaN or Inf, -1 when all finite. */
  firstNonFinite(source: Uint8Array, dtype: FloatDtype, count: number): Promise<number>;
  /** [worker] SHA-256 of a whole file, hex; cancellable. */
  hashFile(path: string, signal?: AbortSignal): Promise<string>;
}

/** Entry points; the implementation (native or fallback) is chosen once at load with a printed reason. REFIT_NATIVE=off forces the fallback. */
export interface Native extends Kernels {
  /** [worker] Reads and checks the header only. */
  readHeader(path: string): Promise<Header>;
  /** The same on the calling thread, for worker threads that read many. */
  readHeaderSync(path: string): Header;
  openTensorFile(path: string): Promise<TensorFile>;
}
