// What a detector says about a diffusion model, and how it asks for shapes.

import type { Parameters } from "../../terms/index.ts";
import type { Family, ModelConfig } from "../types.ts";

export interface DetectedModel {
  readonly family: Family;
  readonly variant: string;
  /** Numbers that a graph export needs, in the names that ComfyUI's and the original model code use. */
  readonly config: ModelConfig;
  readonly evidence: readonly string[];
}

/** A model that is known by name but that no engine here runs. */
export interface UnsupportedModel {
  readonly unsupported: string;
  readonly evidence: readonly string[];
}

/** Shapes by canonical name, with the questions that detectors ask. */
export interface Shapes {
  readonly has: (name: string) => boolean;
  /** A dimension of a parameter, null when there is no such parameter or dimension. */
  readonly dim: (name: string, axis: number) => number | null;
  readonly rank: (name: string) => number;
  /** The first name that fits; null when none does. */
  readonly find: (pattern: RegExp) => string | null;
  /** One more than the largest N of `prefix` + N + `.`; 0 when there is none. */
  readonly count: (prefix: string) => number;
  readonly names: () => Iterable<string>;
}

export function shapesOf(parameters: Parameters): Shapes {
  return {
    has: (name) => parameters.has(name),
    dim: (name, axis) => parameters.get(name)?.[axis] ?? null,
    rank: (name) => parameters.get(name)?.length ?? 0,
    find(pattern) {
      for (const name of parameters.keys()) if (pattern.test(name)) return name;
      return null;
    },
    count(prefix) {
      let count = 0;
      for (const name of parameters.keys()) {
        if (!name.startsWith(prefix)) continue;
        const index = Number.parseInt(name.slice(prefix.length), 10);
        if (index >= count) count = index + 1;
      }
      return count;
    },
    names: () => parameters.keys(),
  };
}
