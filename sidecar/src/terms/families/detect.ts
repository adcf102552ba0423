// Which described family a model's names and shapes are of. In: canonical parameters. Out: family, variant and configuration with the evidence.

import { familyTable, type Family, type FamilyDescription } from "@refit-sidecar/protocol";
import type { Parameters } from "../names/parameters.ts";
import { scopeOf } from "./described.ts";
import { evaluate, fillTemplate, truth, type Scope, type Value } from "./expression.ts";
import { findName } from "./pattern.ts";

export interface DescribedModel {
  readonly family: Family;
  readonly variant: string;
  /** Numbers of the layout in ComfyUI's names. */
  readonly config: Readonly<Record<string, string | number | boolean | null | readonly number[]>>;
  readonly evidence: readonly string[];
}

type Checkpoint = NonNullable<FamilyDescription["checkpoint"]>;
type ConfigValue = Checkpoint["config"][string];

const inOrder: readonly { readonly description: FamilyDescription; readonly checkpoint: Checkpoint }[] = familyTable
  .flatMap((description) => (description.checkpoint === undefined ? [] : [{ description, checkpoint: description.checkpoint }]))
  .sort((a, b) => a.checkpoint.order - b.checkpoint.order);

/** Null: no described family. `told`: the family that the file's format told (names of diffusers' own file); its canonical names may be fewer than a checkpoint's. */
export function detectDescribed(shapes: Parameters, told: Family | null = null): DescribedModel | null {
  for (const { description, checkpoint } of inOrder) {
    const required = checkpoint.requires.map((name) => findName(shapes, name)).filter((name) => name !== undefined);
    const scope = scopeOf(description, shapes);
    if (told === null) {
      if (required.length < checkpoint.requires.length || checkpoint.forbids?.some((name) => findName(shapes, name) !== undefined))
        continue;
      if (checkpoint.where !== undefined && !truth(evaluate(checkpoint.where, scope))) continue;
    } else if (told !== description.family) continue;
    return {
      family: description.family as Family,
      variant: variantOf(checkpoint, scope),
      config: configOf(checkpoint, scope),
      evidence: [...required.map((name) => `key ${name}`), ...(checkpoint.evidence ?? []).map((text) => fillTemplate(text, scope))],
    };
  }
  return null;
}

function chosen<Choice extends { readonly when?: string | undefined }>(choices: readonly Choice[], scope: Scope): Choice | undefined {
  return choices.find(({ when }) => when === undefined || truth(evaluate(when, scope)));
}

function variantOf({ variant }: Checkpoint, scope: Scope): string {
  return variant
    .map((choices) => fillTemplate(chosen(choices, scope)?.name ?? "", scope))
    .filter((name) => name !== "")
    .join("-");
}

const computed = (value: Value, scope: Scope): Value =>
  typeof value === "string" && value.startsWith("=") ? evaluate(value.slice(1), scope) : value;

function configOf({ config }: Checkpoint, scope: Scope): Record<string, Value> {
  const made: Record<string, Value> = {};
  for (const [name, value] of Object.entries(config)) {
    const found = configValue(value, scope);
    if (found !== undefined) made[name] = found;
  }
  return made;
}

/** Undefined: left out. */
function configValue(value: ConfigValue, scope: Scope): Value | undefined {
  if (value === null || typeof value !== "object") return computed(value, scope);
  if (Array.isArray(value)) return value.map((one) => Number(computed(one, scope)));
  if ("choose" in value) return computed(chosen(value.choose, scope)?.value ?? null, scope);
  return truth(evaluate(value.when, scope)) ? computed(value.value, scope) : undefined;
}
