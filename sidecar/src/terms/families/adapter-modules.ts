// An adapter's modules as the rules of descriptions see them: names without prefixes, block numbers as `#`, widths. In: tensors of the header. Out: functions of expressions.

import { inputWidth, outputRows } from "../names/input-width.ts";
import type { Parameters } from "../names/parameters.ts";
import type { Value } from "./expression.ts";

/** Prefixes of trainers and UIs. The longest that fits goes; `net` and `lora_unet` tell something of themselves. */
const prefixes = [
  "base_model.model.model.diffusion_model.",
  "base_model.model.diffusion_model.",
  "base_model.model.transformer.",
  "base_model.model.unet.",
  "base_model.model.",
  "model.diffusion_model.",
  "diffusion_model.",
  "transformer.",
  "unet.",
  "net.",
  "_orig_mod.",
  "lora_transformer_",
  "lora_unet__",
  "lora_unet_",
  "lycoris_",
];

interface Template {
  /** A module of this form, as the file names it. */
  readonly module: string;
  readonly numbers: number[];
}

export interface AdapterModules {
  readonly functions: Readonly<Record<string, (argument: string) => Value>>;
  /** The file's name of a module that fits; null when none does. */
  readonly example: (pattern: string) => string | null;
}

const firstNumber = /(^|[._])(\d+)(?=[._]|$)/;
const compiled = new Map<string, RegExp>();

function regex(text: string): RegExp {
  let found = compiled.get(text);
  if (found === undefined) compiled.set(text, (found = new RegExp(text)));
  return found;
}

/** `modules`: every module of the file that a denoiser might have. Names come down to some dozens of forms, so that a rule costs little. */
export function adapterModules(shapes: Parameters, modules: Iterable<string>): AdapterModules {
  const templates = new Map<string, Template>();
  for (const module of modules) {
    const prefix = prefixes.find((candidate) => module.startsWith(candidate)) ?? "";
    if (prefix !== "" && !templates.has(`prefix ${prefix.slice(0, -1)}`))
      templates.set(`prefix ${prefix.slice(0, -1)}`, { module, numbers: [] });
    const name = module.slice(prefix.length);
    const number = firstNumber.exec(name);
    const form = number === null ? name : name.replace(firstNumber, "$1#");
    const known = templates.get(form);
    if (known === undefined) templates.set(form, { module, numbers: number === null ? [] : [Number(number[2])] });
    else if (number !== null) known.numbers.push(Number(number[2]));
  }
  function* fitting(pattern: string): Generator<Template> {
    for (const [form, template] of templates) if (regex(pattern).test(form)) yield template;
  }
  function firstSize(pattern: string, size: (shapes: Parameters, module: string) => number | null): number | null {
    for (const { module } of fitting(pattern)) {
      const found = size(shapes, module);
      if (found !== null) return found;
    }
    return null;
  }
  const example = (pattern: string): string | null => fitting(pattern).next().value?.module ?? null;
  return {
    example,
    functions: {
      has: (pattern) => example(pattern) !== null,
      last: (pattern) =>
        [...fitting(pattern)].reduce<number | null>(
          (largest, { numbers }) => numbers.reduce<number | null>((a, b) => Math.max(a ?? 0, b), largest),
          null,
        ),
      width: (pattern) => firstSize(pattern, inputWidth),
      rows: (pattern) => firstSize(pattern, outputRows),
    },
  };
}
