// What a step of a structure takes and gives, from its family's description alone.

import type { Family, FamilyDescription, FamilyInput } from "@refit-sidecar/protocol";
import type { Parameters } from "../names/parameters.ts";
import { descriptionOf, scopeOf } from "./described.ts";
import { evaluate, truth, type Scope } from "./expression.ts";

export interface StepPort {
  readonly name: string;
  /** "float": the engine's own float type. */
  readonly dtype: "float" | "f32";
  /** A name is a size that changes between steps. */
  readonly shape: readonly (number | string)[];
  readonly optional?: true;
}

export interface DescribedStep {
  readonly inputs: readonly StepPort[];
  readonly outputs: readonly StepPort[];
  /** Engine precisions that suit the family, best first. */
  readonly precisions: readonly ("bf16" | "fp16" | "fp32")[];
  /** No graph of the structure can be exported: the torch host alone serves it. */
  readonly torchAlone: boolean;
}

/** How a family's denoising loop is run. */
export interface FamilySampling extends Readonly<NonNullable<FamilyDescription["sampling"]>> {
  /** The input is the same over a run: whoever asks for pictures brings it. */
  readonly takes: (input: string) => boolean;
}

/** Null: only its single steps are served. */
export function samplingOf(family: Family): FamilySampling | null {
  const { sampling, inputs = [] } = descriptionOf(family);
  if (sampling === undefined) return null;
  const brought = inputs.filter(({ each, call }) => each === "run" && call === undefined);
  const takes = (name: string): boolean =>
    brought.some((input) => input.name === name || (input.many !== undefined && name.startsWith(`${input.name}_`)));
  return { ...sampling, takes };
}

/** As a person calls the family. */
export const familyTitle = (family: Family): string => descriptionOf(family).title;

/** Null: the family's inputs are its graph's. */
export function describedStep(family: Family, parameters: Parameters): DescribedStep | null {
  const description = descriptionOf(family);
  if (description.layout === "unet" || description.inputs === undefined) return null;
  const scope = scopeOf(description, parameters);
  const holds = (when: string | undefined) => when === undefined || truth(evaluate(when, scope));
  const inputs = description.inputs.filter(({ when }) => holds(when)).flatMap((input) => portsOf(input, scope));
  const sample = inputs.find(({ name }) => name === "sample");
  if (sample === undefined) return null;
  const { hosts, hostsWhen, outputWhen, defaults } = description;
  const output = holds(outputWhen) ? description.output : undefined;
  return {
    inputs,
    outputs: [
      { name: "out_sample", dtype: "float", shape: output === undefined ? sample.shape : output.map((axis) => sizeOf(axis, scope)) },
    ],
    precisions: defaults.precisions,
    torchAlone: hosts !== undefined && holds(hostsWhen),
  };
}

/** One port; of a list as many as it may have, each with sizes of its own. */
function portsOf({ name, dtype, axes, many, optional, call }: FamilyInput, scope: Scope): StepPort[] {
  const members = many === undefined ? [""] : Array.from({ length: many }, (_, index) => `_${index}`);
  return members.map((member) => ({
    name: name + member,
    dtype,
    shape: axes.map((axis) => sizeOf(axis, scope)).map((axis) => (typeof axis === "string" ? axis + member : axis)),
    ...(optional === true || call !== undefined ? { optional: true as const } : {}),
  }));
}

function sizeOf(axis: string, scope: Scope): number | string {
  if (!axis.startsWith("{")) return axis;
  const value = evaluate(axis.slice(1, -1), scope);
  // A size that the shapes do not tell is told by the host, which refuses such a structure by name.
  return typeof value === "number" ? value : "unknown";
}
