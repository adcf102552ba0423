import { isFloatDtype, native, type TensorEntry, type TensorFile } from "@refit-sidecar/native";
import type { StackFile } from "@refit-sidecar/protocol";
import { z } from "zod";
import { changesShape, checkTerm, f32Factors, type Addend, type Factor, type Term } from "../../src/terms/index.ts";
import { hostFailure } from "./host-failure.ts";

const name = z.string().min(1);
const base = {
  target: z.object({ parameter: name, slice: z.object({ start: z.int().nonnegative(), length: z.int().positive() }).exactOptional(), swapHalves: z.boolean().exactOptional() }),
  doraScale: name.exactOptional(),
  doraNorm: z.literal("merged").exactOptional(),
  sourceKeys: z.array(z.string()),
};
const scaled = { ...base, scale: z.number() };

/** Mirrors `Term`. Strict: a field that this list lacks must be refused, not dropped, because it changes what the term means. */
const term = z.discriminatedUnion("kind", [
  z.strictObject({ ...scaled, kind: z.literal("lowRank"), up: name, down: name, mid: name.exactOptional(), padTo: z.array(z.int().positive()).exactOptional() }),
  z.strictObject({ ...scaled, kind: z.literal("hadamard"), w1a: name, w1b: name, w2a: name, w2b: name, t1: name.exactOptional(), t2: name.exactOptional() }),
  z.strictObject({ ...scaled, kind: z.literal("kronecker"), w1: name.exactOptional(), w1a: name.exactOptional(), w1b: name.exactOptional(), w2: name.exactOptional(), w2a: name.exactOptional(), w2b: name.exactOptional(), t2: name.exactOptional() }),
  z.strictObject({ ...scaled, kind: z.literal("glora"), a1: name, a2: name, b1: name, b2: name }),
  z.strictObject({ ...base, kind: z.literal("orthogonal"), variant: z.enum(["oft", "boft"]), blocks: name, constraint: z.number().nullable(), rescale: name.exactOptional(), strengthOnce: z.literal(true).exactOptional() }),
  z.strictObject({ ...base, kind: z.literal("dense"), value: name }),
  z.strictObject({ ...base, kind: z.literal("set"), value: name }),
  z.strictObject({ ...base, kind: z.literal("channelScale"), value: name, axis: z.enum(["rows", "columns"]) }),
]) satisfies z.ZodType<Term>;

const metadata = z.object({ formatVersion: z.literal(1), adapter: z.string(), terms: z.array(term) });

/** One adapter of a stack, opened for one refit. */
export class DeltaFile {
  readonly sha256: string;
  readonly strength: number;
  /** Terms by parameter, in the adapter's order. */
  readonly terms: ReadonlyMap<string, readonly Term[]>;
  readonly #file: TensorFile;

  private constructor(stack: StackFile, file: TensorFile, terms: readonly Term[]) {
    this.sha256 = stack.sha256;
    this.strength = stack.strength;
    this.#file = file;
    const byParameter = new Map<string, Term[]>();
    for (const entry of terms) {
      const list = byParameter.get(entry.target.parameter);
      if (list === undefined) byParameter.set(entry.target.parameter, [entry]);
      else list.push(entry);
    }
    this.terms = byParameter;
  }

  /** Throws HOST_FILE_* for the container and HOST_DELTA_INVALID for what is inside it. */
  static async open(stack: StackFile): Promise<DeltaFile> {
    const file = await native.openTensorFile(stack.delta);
    try {
      return new DeltaFile(stack, file, readTerms(file, stack.sha256));
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  /**
   * What the adapter adds to one parameter, in its own order. Checked against the parameter's shape before anything is computed.
   * Throws HOST_SHAPE_MISMATCH, HOST_NOT_REFITTABLE (a term that gives the parameter another shape) and what reading factors throws.
   */
  addends(parameter: string, shape: readonly number[]): Addend[] {
    const terms = this.terms.get(parameter) ?? [];
    const factors = f32Factors((factor) => this.#factor(factor), native);
    return terms.map((entry) => {
      if (changesShape(entry)) {
        throw hostFailure("HOST_NOT_REFITTABLE", `an adapter gives ${parameter} another shape; a live engine cannot (NEEDS_RECOMPILE), \`merge\` can`, { parameter, adapter: this.sha256 });
      }
      const reason = checkTerm(entry, (factor) => this.#entry(factor).shape, shape);
      if (reason !== null) throw hostFailure("HOST_SHAPE_MISMATCH", `an adapter does not fit ${parameter} of shape [${shape.join(", ")}]: ${reason}. It belongs to another structure.`, { parameter, adapter: this.sha256, reason });
      return { term: entry, strength: this.strength, factors };
    });
  }

  #entry(factor: string): TensorEntry {
    const entry = this.#file.header.entries.get(factor);
    if (entry === undefined) throw hostFailure("HOST_DELTA_INVALID", `a term of the delta names factor ${factor}, which the file lacks; it is rebuilt from the adapter`, { factor });
    return entry;
  }

  async #factor(factor: string): Promise<Factor> {
    const { dtype, shape } = this.#entry(factor);
    if (!isFloatDtype(dtype)) throw hostFailure("HOST_DELTA_INVALID", `expected factor ${factor} to hold floating-point numbers, the delta stores ${dtype}`, { factor, dtype });
    const data = await this.#file.read(factor);
    const bad = await native.firstNonFinite(data, dtype, shape.reduce((product, dimension) => product * dimension, 1));
    if (bad >= 0) throw hostFailure("HOST_NON_FINITE", `factor ${factor} of the adapter holds NaN or infinity at element ${bad}; a live engine refuses it. Remove the adapter.`, { factor, element: bad, adapter: this.sha256 });
    return { dtype, shape, data };
  }

  async checkUnchanged(): Promise<void> {
    await this.#file.checkUnchanged();
  }

  async close(): Promise<void> {
    await this.#file.close();
  }
}

function readTerms(file: TensorFile, adapter: string): readonly Term[] {
  const text = file.header.metadata["refit_delta"];
  let json: unknown;
  try {
    json = JSON.parse(text ?? "");
  } catch (cause) {
    throw hostFailure("HOST_DELTA_INVALID", "expected a delta file with refit_delta metadata; it is rebuilt from the adapter", {}, cause);
  }
  const parsed = metadata.safeParse(json);
  if (!parsed.success) throw hostFailure("HOST_DELTA_INVALID", `the delta's metadata does not hold terms: ${z.prettifyError(parsed.error)}`, {}, parsed.error);
  if (parsed.data.adapter !== adapter) throw hostFailure("HOST_DELTA_INVALID", "expected the delta of the adapter that the stack names, got another adapter's; it is rebuilt from the adapter", { expected: adapter, got: parsed.data.adapter });
  return parsed.data.terms;
}
