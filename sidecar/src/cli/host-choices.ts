// What `selftest` and `bench` are told: which hosts to start, on which model, how often.

import { Failure } from "../failure/index.ts";
import type { HostPythons } from "../pipeline/index.ts";

/** Hosts that a self-test or a benchmark can start. */
export const kinds = ["onnxruntime", "torch", "tensorrt"] as const;
const sizes = { small: null, sd15: "sd15", sdxl: "sdxl" } as const;
const precisions = { auto: null, fp32: "f32", fp16: "f16", bf16: "bf16" } as const;

export interface HostChoiceFlags {
  readonly host: string;
  readonly precision: string;
  readonly size: string;
  readonly repeats: string;
}

export interface HostChoices {
  /** Null: the host's own. */
  readonly precision: (typeof precisions)[keyof typeof precisions];
  /** Null: the demo's model. */
  readonly size: (typeof sizes)[keyof typeof sizes];
  readonly repeats: number;
}

function rowOf<Table extends object>(option: string, table: Table, given: string): Table[keyof Table] {
  if (!Object.hasOwn(table, given))
    throw new Failure("CLI_ARGUMENTS", `${option} expects ${Object.keys(table).join(", ")}, got ${JSON.stringify(given)}`, {});
  return table[given as keyof Table];
}

/** Throws CLI_ARGUMENTS. */
export function hostChoices(flags: HostChoiceFlags, leastRepeats: number): HostChoices {
  if (flags.host !== "auto" && !kinds.some((kind) => kind === flags.host))
    throw new Failure("CLI_ARGUMENTS", `--host expects auto, ${kinds.join(", ")}, got ${JSON.stringify(flags.host)}`, {});
  const precision = rowOf("--precision", precisions, flags.precision);
  const repeats = Number(flags.repeats);
  if (!Number.isInteger(repeats) || repeats < leastRepeats || repeats > 1000)
    throw new Failure(
      "CLI_ARGUMENTS",
      `--repeats expects a whole number from ${leastRepeats} to 1000, got ${JSON.stringify(flags.repeats)}`,
      {},
    );
  return { precision, repeats, size: rowOf("--size", sizes, flags.size) };
}

/** Why a host is left out; null when it is there. */
export function absent(kind: (typeof kinds)[number], pythons: HostPythons): string | null {
  if (kind === "onnxruntime") return null;
  try {
    return pythons(kind) === null ? `it is not installed; "refit-sidecar host install ${kind}" installs it` : null;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}
