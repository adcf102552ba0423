// Values that several host methods carry. The types of `sidecar/src/{catalog,plan}/types.ts` fit these schemas; a type test holds them together.

import { z } from "zod";

const count = z.int().nonnegative();
const hash = z.string().regex(/^[0-9a-f]{64}$/, "expected a SHA-256 in lower-case hex");

/** Element type of an engine's weights. fp8, int8 and nvfp4: large matrices quantised after each merge, everything else (and a step's tensors) bf16. */
export const weightDtype = z.enum(["f32", "f16", "bf16", "fp8", "int8", "nvfp4"]);
export type WeightDtype = z.infer<typeof weightDtype>;

export const shape = z.array(count).max(8).readonly();

export const containerDtype = z.enum([
  "BOOL",
  "U8",
  "I8",
  "I16",
  "U16",
  "I32",
  "U32",
  "I64",
  "U64",
  "F16",
  "BF16",
  "F32",
  "F64",
  "F8_E4M3",
  "F8_E5M2",
  "F8_E8M0",
  "F8_E4M3FNUZ",
  "F8_E5M2FNUZ",
  "F6_E2M3",
  "F6_E3M2",
  "F4",
  "C64",
]);

/**
 * How a quantised tensor becomes values; keys are tensors of the same file. `scaled`: code * scale, one scale or one a row (fp8, int8). `nvfp4`: packed E2M1 codes * block scale *
 * scale2. `mxfp8`: code * 2^(block scale - 127). `columnScale`: one factor per column on top. `rotation`: rows are rotated back in groups of so many columns.
 */
const storage = z
  .object({
    format: z.enum(["scaled", "nvfp4", "mxfp8"]),
    scale: z.string(),
    scale2: z.string().exactOptional(),
    columnScale: z.string().exactOptional(),
    rotation: z.int().positive().exactOptional(),
  })
  .readonly();

/** A file tensor that holds rows of a parameter (or all of them), in row order; with `swapHalves` the tensor has the halves of dimension 0 in the other order. A packed or padded tensor has another shape in the file. */
const parameterPiece = z
  .object({
    file: count,
    key: z.string(),
    dtype: containerDtype,
    start: count,
    length: count,
    swapHalves: z.boolean(),
    storage: storage.exactOptional(),
  })
  .readonly();

/** `shape` is the layer's own, as a plain checkpoint stores it. All pieces have one dtype and one format. */
const parameterSource = z.object({ shape, pieces: z.array(parameterPiece).min(1).readonly() }).readonly();

/** Where a checkpoint's canonical parameters lie, with the stamp that each file had when it was catalogued: a host refuses a file that differs from it. */
export const checkpointSource = z
  .object({
    files: z
      .array(
        z
          .object({ path: z.string().min(1), sizeBytes: count, mtimeNs: z.string().regex(/^-?\d+$/), inode: z.string().regex(/^\d+$/) })
          .readonly(),
      )
      .readonly(),
    parameters: z.record(z.string(), parameterSource).readonly(),
  })
  .readonly();

/** One adapter of a stack, as a delta file. `sha256` is the adapter's and must be the one in the delta file's metadata. */
export const stackFile = z.object({ delta: z.string().min(1), sha256: hash, strength: z.number() }).readonly();
export type StackFile = z.infer<typeof stackFile>;

/** The largest share of an adapter's change that rounding may swallow before the adapter stays a branch beside the layer. 1: never a branch. */
export const adapterLossLimit = z.number().min(0).max(1);

export const desiredState = z
  .object({
    checkpoint: z.string(),
    stack: z.array(z.object({ sha256: hash, strength: z.number() }).readonly()).readonly(),
    adapterLoss: adapterLossLimit.exactOptional(),
  })
  .readonly();

export const refitPlan = z
  .object({
    from: desiredState.nullable(),
    to: desiredState,
    full: z.boolean(),
    writes: z.array(z.object({ parameter: z.string(), reason: z.enum(["touched", "restored", "base"]) }).readonly()).readonly(),
  })
  .readonly();

/** How a host's device memory is reached from another process (`segmentMedium` of the wire). */
export const medium = z.enum(["cuda-ipc", "memfd"]);

/** A file of the segment folder, or memory of the host's device by the name that `share` gave it. No separator and no dot: it cannot lead out of the folder. */
export const segmentName = z.string().regex(/^[A-Za-z0-9_-]{1,64}$/, "expected the plain name of a segment");

/** SHA-256 per parameter of its values in engine dtype, canonical layout, little-endian. */
export const checksums = z.record(z.string(), hash).readonly();

/** How an adapter reaches a layer: in its weights, or beside them as a low-rank branch. */
const adapterWay = z.enum(["merged", "branch"]);

/**
 * How much of each adapter's change the engine's weights got, in the order of the stack. With d = what the adapter intended and e = what the stack changed minus what it intended:
 * `projection` is 1 + <e, d> / <d, d> (1: all of it arrived; 0: rounding swallowed it), `lostShare` is |e| / |d| (noise counts too). An adapter that changes nothing has no entry.
 */
export const adapterLosses = z
  .array(
    z
      .object({
        adapter: hash,
        projection: z.number(),
        lostShare: z.number().nonnegative(),
        /** Parameters that it reaches in each way. */
        merged: count,
        branched: count,
        /** Those that lost most, the worst first. */
        parameters: z
          .array(
            z.object({ parameter: z.string(), way: adapterWay, projection: z.number(), lostShare: z.number().nonnegative() }).readonly(),
          )
          .readonly(),
      })
      .readonly(),
  )
  .readonly();
export type AdapterLosses = z.infer<typeof adapterLosses>;

/** What quantising cost when the engine was loaded. Errors are relative: ||quantised - bf16|| / ||bf16||. */
export const quantised = z
  .object({
    format: z.enum(["fp8", "int8", "nvfp4"]),
    /** How a step multiplies: fp8 products (`rowwise`, `unit`), int8 products (`integer`), or weights made bf16 again (`dequantise`). */
    way: z.string(),
    layers: count,
    /** Kinds of matrices that are not quantised; numbers in names are *. */
    whole: z.array(z.string()).readonly(),
    weightError: z.number().nonnegative(),
    /** Of one denoiser call on a fixed input; null when the call itself gave no finite numbers. */
    outputError: z.number().nonnegative().nullable(),
  })
  .readonly();

/** Grows by one with every commit (and starts at 1 after load): names one consistent set of weights. */
export const generation = count;
export const milliseconds = z.number().nonnegative();
export const bytes = count;
