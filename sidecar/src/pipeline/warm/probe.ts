// Inputs for a step that nobody asked for: the first step of a session pays for memory and code paths that all later ones reuse.

import { tensorDtypes, type FrameTensor } from "@refit-sidecar/protocol";
import type { EngineSpec } from "../../refit/index.ts";
import { elements } from "../../terms/index.ts";
import type { Port } from "../resolve/graphs.ts";
import { portDtype } from "../answers/views.ts";

/** Shapes of a step's inputs by name. */
export type StepShapes = Readonly<Record<string, readonly number[]>>;

/** A step that somebody asked for. `bytes`: what its host process took then; null when that is not known. */
export interface LastStep {
  readonly shapes: StepShapes;
  readonly ms: number;
  readonly bytes: number | null;
}

/** A real step that comes waits for the probe that is running, so none is longer; all of them together take no more than the second. */
const longestProbeMs = 5_000;
const allProbesMs = 15_000;
/** ONNX Runtime, PyTorch and the kernels' own caches need two; code that is compiled as it gets hot takes a few more. */
const leastProbes = 2;
const mostProbes = 6;
/** One that is not faster than this part of the fastest before it shows that nothing more is gained. */
const stillGaining = 0.95;

export interface ProbeParts {
  /** One step in the sizes of that last one, or in the smallest. */
  readonly step: (last: StepShapes | null) => Promise<void>;
  /** Somebody else uses the engine, or waits for it. */
  readonly wanted: () => boolean;
  /** Memory that the host process takes now, and that is free beside it. */
  readonly memory: () => Promise<{ readonly takenBytes: number; readonly freeBytes: number }>;
  readonly nowMs: () => number;
}

/**
 * Steps until a step costs what it will cost: at the size last used where that is short and its memory is there with as much again left over, else at the smallest.
 * Ends at once when the engine is wanted.
 */
export async function probeSteps(last: LastStep | null, { step, wanted, memory, nowMs }: ProbeParts): Promise<number> {
  const shapes = last !== null && last.ms <= longestProbeMs && (await hasRoom(last, memory)) ? last.shapes : null;
  const began = nowMs();
  let fastest = Infinity;
  for (let count = 1; ; count += 1) {
    const started = nowMs();
    await step(shapes);
    const ms = nowMs() - started;
    const steady = ms > fastest * stillGaining;
    fastest = Math.min(fastest, ms);
    if (count >= mostProbes || (count >= leastProbes && (steady || shapes === null)) || wanted() || nowMs() - began + ms > allProbesMs)
      return count;
  }
}

async function hasRoom({ bytes }: LastStep, memory: ProbeParts["memory"]): Promise<boolean> {
  if (bytes === null) return false;
  const { takenBytes, freeBytes } = await memory();
  return Math.max(0, bytes - takenBytes) * 2 <= freeBytes;
}

/** Small, and fit for every UNet of the families: sides are multiples of 8, as three halvings need. */
const smallest: Readonly<Record<string, number>> = { batch: 1, height: 16, width: 16, tokens: 77, frames: 1 };

/** Zeros for every input that a step cannot be without: in the sizes of the last real step when there are some, else in the smallest. */
export function probeInputs(ports: readonly Port[], precision: EngineSpec["precision"], last: StepShapes | null): FrameTensor[] {
  return ports
    .filter(({ optional }) => optional !== true)
    .map(({ name, dtype, shape }) => {
      const own = portDtype(dtype, precision);
      const known = last?.[name];
      const fits =
        known !== undefined &&
        known.length === shape.length &&
        shape.every((dimension, index) => typeof dimension === "string" || dimension === known[index]);
      const sizes = fits ? known : shape.map((dimension) => (typeof dimension === "string" ? (smallest[dimension] ?? 1) : dimension));
      return { name, dtype: own, shape: [...sizes], data: new Uint8Array(elements(sizes) * tensorDtypes[own]) };
    });
}
