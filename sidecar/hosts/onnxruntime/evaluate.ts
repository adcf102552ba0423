import { native, type FloatDtype, type LowRankFactor } from "@refit-sidecar/native";
import type { Factor, Term } from "../../src/terms/index.ts";
import { hostFailure } from "./host-failure.ts";
import type { ParameterLayout } from "./refit-map.ts";

export interface Addend {
  readonly adapter: string;
  readonly strength: number;
  readonly term: Term;
  readonly factors: ReadonlyMap<string, Factor>;
}

export interface Evaluation {
  readonly layout: ParameterLayout;
  readonly base: Uint8Array;
  readonly baseDtype: FloatDtype;
  readonly baseScale: number;
  readonly addends: readonly Addend[];
  readonly out: Uint8Array;
  readonly outDtype: FloatDtype;
  readonly signal: AbortSignal;
}

/** Merges the addends of one parameter into `out`, in order. */
export async function evaluate(job: Evaluation): Promise<{ adapter: string; reason: string }[]> {
  const { layout, addends, ...rest } = job;
  const rows = layout.shape[0] ?? 1;
  const cols = rows === 0 ? 0 : layout.elements / rows;
  const factors = await Promise.all(addends.map((addend) => lowRank(addend, layout, rows, cols)));
  await native.mergeLowRank({ ...rest, rows, cols, factors });
  return [];
}

async function lowRank(addend: Addend, layout: ParameterLayout, rows: number, cols: number): Promise<LowRankFactor> {
  const { term, strength } = addend;
  if (term.kind !== "lowRank") throw hostFailure("HOST_DELTA_INVALID", `term kind ${term.kind} is not supported here`);
  const up = await floats(addend.factors, term.up);
  const down = await floats(addend.factors, term.down);
  const rank = down.shape[0] ?? 0;
  if (up.values.length !== rows * rank || down.values.length !== rank * cols) {
    throw hostFailure("HOST_SHAPE_MISMATCH", `expected factors for ${layout.name} of shape [${layout.shape.join(", ")}], got up [${up.shape.join(", ")}] and down [${down.shape.join(", ")}]`, { parameter: layout.name, adapter: addend.adapter });
  }
  return { up: up.values, down: down.values, rank, scale: strength * term.scale };
}

async function floats(factors: ReadonlyMap<string, Factor>, name: string): Promise<{ values: Float32Array; shape: readonly number[] }> {
  const factor = factors.get(name);
  if (factor === undefined || factor.dtype === "I64" || factor.dtype === "I32" || factor.dtype === "U8") throw hostFailure("HOST_DELTA_INVALID", `factor ${name} is missing or not a floating-point tensor`);
  const values = new Float32Array(factor.shape.reduce((product, dimension) => product * dimension, 1));
  await native.convert(factor.data, factor.dtype, new Uint8Array(values.buffer), "F32", values.length);
  return { values, shape: factor.shape };
}
