import { native, type TensorFile } from "@refit-sidecar/native";
import type { StackFile } from "@refit-sidecar/protocol";
import { Failure } from "../../src/failure/index.ts";
import { changesShape, checkTerm, f32Factors, factorNames, readDelta, type Addend, type Delta, type Term } from "../../src/terms/index.ts";
import { hostFailure } from "./host-failure.ts";

/** One adapter of a stack, opened for one refit. */
export class DeltaFile {
  readonly sha256: string;
  readonly strength: number;
  /** Terms by parameter, in the adapter's order. */
  readonly terms: ReadonlyMap<string, readonly Term[]>;
  readonly #file: TensorFile;
  readonly #delta: Delta;
  readonly #nonFinite: ReadonlySet<string>;

  private constructor(stack: StackFile, file: TensorFile, delta: Delta) {
    this.sha256 = stack.sha256;
    this.strength = stack.strength;
    this.#file = file;
    this.#delta = delta;
    this.#nonFinite = new Set(delta.nonFinite);
    const byParameter = new Map<string, Term[]>();
    for (const entry of delta.header.terms) {
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
      const delta = await readDelta(file);
      const { adapter } = delta.header;
      if (adapter !== stack.sha256) {
        throw hostFailure(
          "HOST_DELTA_INVALID",
          "expected the delta of the adapter that the stack names, got another adapter's; it is rebuilt from the adapter",
          { expected: stack.sha256, got: adapter },
        );
      }
      return new DeltaFile(stack, file, delta);
    } catch (error) {
      await file.close();
      throw asDeltaFailure(error);
    }
  }

  /**
   * What the adapter adds to one parameter, in its own order. Checked against the parameter's shape before anything is computed.
   * Throws HOST_SHAPE_MISMATCH, HOST_NON_FINITE, HOST_NOT_REFITTABLE (a term that gives the parameter another shape) and what reading factors throws.
   */
  addends(parameter: string, shape: readonly number[]): Addend[] {
    const terms = this.terms.get(parameter) ?? [];
    const factors = f32Factors(
      (factor) => this.#delta.factor(factor).catch((error: unknown) => Promise.reject(asDeltaFailure(error))),
      native,
    );
    return terms.map((term) => {
      this.#check(term, parameter, shape);
      return { term, strength: this.strength, factors };
    });
  }

  #check(term: Term, parameter: string, shape: readonly number[]): void {
    const adapter = this.sha256;
    if (changesShape(term))
      throw hostFailure(
        "HOST_NOT_REFITTABLE",
        `an adapter gives ${parameter} another shape; a live engine cannot (NEEDS_RECOMPILE), \`merge\` can`,
        { parameter, adapter },
      );
    const sick = factorNames(term).find((factor) => this.#nonFinite.has(factor));
    if (sick !== undefined) {
      throw hostFailure(
        "HOST_NON_FINITE",
        `an adapter holds NaN or infinity for ${parameter} (${this.#delta.header.sources[sick] ?? sick}); a live engine refuses it. Remove the adapter.`,
        { parameter, adapter, key: this.#delta.header.sources[sick] ?? null },
      );
    }
    const reason = checkTerm(term, (factor) => this.#delta.shapeOf(factor) ?? [], shape);
    if (reason !== null)
      throw hostFailure(
        "HOST_SHAPE_MISMATCH",
        `an adapter does not fit ${parameter} of shape [${shape.join(", ")}]: ${reason}. It belongs to another structure.`,
        { parameter, adapter, reason },
      );
  }

  async checkUnchanged(): Promise<void> {
    await this.#file.checkUnchanged();
  }

  async close(): Promise<void> {
    await this.#file.close();
  }
}

/** The terms leaf has its own codes for a damaged delta; the protocol has one. */
function asDeltaFailure(error: unknown): unknown {
  if (!(error instanceof Failure) || (error.code !== "DELTA_DAMAGED" && error.code !== "DELTA_VERSION")) return error;
  return hostFailure("HOST_DELTA_INVALID", error.message, { ...error.evidence, reader: error.code }, error);
}
