// Family of an adapter from its keys and shapes alone, with the evidence. Table: docs/develop/adapters.md, "Which family".

import { familyTable, otherModelTable, type Family } from "@refit-sidecar/protocol";
import { adapterModules, evaluate, fillTemplate, truth, type AdapterModules, type Scope } from "../families/index.ts";
import { foreignKey } from "./foreign-keys.ts";
import { metadataFamilies } from "./metadata-hints.ts";
import { inputWidth } from "./input-width.ts";
import type { Parameters } from "./parameters.ts";
import { moduleName } from "./suffixes.ts";

export interface AdapterFamily {
  /** Null when names fit no known family, or several and nothing tells them apart. */
  readonly family: Family | null;
  /** What remains possible when `family` is null; else the family, and others whose adapters have such names and sizes too. */
  readonly candidates: readonly Family[];
  readonly evidence: readonly string[];
  /** A model that this program has no engine for, by name. */
  readonly unsupported: string | null;
}

const unetFamilies: readonly Family[] = ["sd15", "sd2", "sdxl", "sdxl-refiner"];

/** Input width of cross-attention keys and values = width of the text condition. */
const conditionWidths: ReadonlyMap<number, Family> = new Map([
  [768, "sd15"],
  [1024, "sd2"],
  [2048, "sdxl"],
  [1280, "sdxl-refiner"],
]);

function found(family: Family, ...evidence: string[]): AdapterFamily {
  return { family, candidates: [family], evidence, unsupported: null };
}

function rejected(name: string, ...evidence: string[]): AdapterFamily {
  return { family: null, candidates: [], evidence, unsupported: name };
}

interface Rule {
  readonly order: number;
  readonly where: string;
  readonly evidence?: string | undefined;
  readonly also?: readonly { readonly family: string; readonly unless: string }[] | undefined;
  readonly family: Family | null;
  readonly title: string;
}

/** Rules of every family and of other models, in order. */
const rules: readonly Rule[] = [
  ...familyTable.flatMap(({ family, title, adapters }) => (adapters ?? []).map((rule) => ({ ...rule, family: family as Family, title }))),
  ...otherModelTable.flatMap(({ title, adapters }) => (adapters ?? []).map((rule) => ({ ...rule, family: null, title }))),
].sort((one, other) => one.order - other.order);

/** `shapes` are the tensors of the adapter's header; metadata only decides between families that the shapes leave open. */
export function detectAdapterFamily(shapes: Parameters, metadata: Readonly<Record<string, string>> = {}): AdapterFamily {
  const keys = [...shapes.keys()];
  const model = keys.filter((key) => foreignKey(key) === null);
  // Thousands of files are looked at in a row, most of them for UNets: names that only UNets have come first.
  const unet = model.find((key) => /(down|up|input|output)_blocks[._]\d|mid_block|middle_block/.test(key));
  const videoUnet =
    unet !== undefined && model.some((key) => /temporal_transformer_block|time_stack|time_mixer|temporal_res_block/.test(key));
  if (unet !== undefined && !videoUnet) return unetFamily(shapes, model, keys, metadata);
  const modules = adapterModules(shapes, new Set(model.flatMap((key) => moduleName(key) ?? [])));
  const scope: Scope = {
    shapes,
    named: (name) => {
      throw new TypeError(`a rule of an adapter has no dimension ${name}`);
    },
    functions: modules.functions,
  };
  const rule = rules.find(({ where }) => truth(evaluate(where, scope)));
  if (rule !== undefined) {
    const evidence = [
      `module ${exampleOf(rule.where, modules)}`,
      ...(rule.evidence === undefined ? [] : [fillTemplate(rule.evidence, scope)]),
    ];
    if (rule.family === null) return rejected(rule.title, ...evidence);
    const others = (rule.also ?? []).filter(({ unless }) => !truth(evaluate(unless, scope))).map(({ family }) => family as Family);
    const one = found(rule.family, ...evidence, ...widthText(modules), ...others.map((family) => `names and sizes that ${family} has too`));
    return { ...one, candidates: [rule.family, ...others] };
  }
  const outside = model.find((key) => /time_embed|conv_(in|out)|proj_(in|out)/.test(key));
  if (outside !== undefined) return unetFamily(shapes, model, keys, metadata);
  return {
    family: null,
    candidates: metadataFamilies(metadata),
    evidence: [`no known block name among ${keys.length} keys`],
    unsupported: null,
  };
}

/** A module that the rule asked for. */
function exampleOf(where: string, modules: AdapterModules): string {
  for (const [, pattern] of where.matchAll(/'([^']*)'/g)) {
    const example = modules.example(pattern ?? "");
    if (example !== null) return example;
  }
  return modules.example("") ?? "";
}

function widthText({ functions }: AdapterModules): string[] {
  const width = functions["width"]?.("[._](to_q|q|qkv|wq|q_proj|to_query)$") ?? null;
  return typeof width === "number" ? [`input width ${width}`] : [];
}

function unetFamily(
  shapes: Parameters,
  model: readonly string[],
  keys: readonly string[],
  metadata: Readonly<Record<string, string>>,
): AdapterFamily {
  for (const key of model) {
    if (!/attn2[._](processor[._])?to_[kv](?![a-z])/.test(key)) continue;
    const width = inputWidth(shapes, moduleName(key) ?? "");
    const family = width === null ? undefined : conditionWidths.get(width);
    if (family) return found(family, `condition width ${width} in ${key}`);
  }
  for (const key of model) {
    const width = /attn1[._](processor[._])?to_[qkv](?![a-z])|ff[._]net[._]0[._]proj/.test(key)
      ? inputWidth(shapes, moduleName(key) ?? "")
      : null;
    if (width === 384 || width === 768 || width === 1536) return found("sdxl-refiner", `attention width ${width} in ${key}`);
  }
  const deep = model.find((key) => /transformer_blocks[._][1-9]/.test(key));
  if (deep !== undefined) return found("sdxl", `more than one transformer block per attention: ${deep}`);
  const secondEncoder = keys.find((key) => /^(lora_te2_|text_encoder_2\.)/.test(key));
  if (secondEncoder !== undefined) return found("sdxl", `two text encoders: ${secondEncoder}`);
  for (const key of keys) {
    const width = key.startsWith("lora_te_") && /mlp_fc1|[qkv]_proj/.test(key) ? inputWidth(shapes, moduleName(key) ?? "") : null;
    if (width === 768) return found("sd15", `text encoder width 768 in ${key}`);
    if (width === 1024) return found("sd2", `text encoder width 1024 in ${key}`);
  }
  const hinted = metadataFamilies(metadata).filter((family) => unetFamilies.includes(family));
  const only = hinted[0];
  if (hinted.length === 1 && only) return found(only, "UNet block names", "metadata names the base model");
  return {
    family: null,
    candidates: hinted.length > 0 ? hinted : unetFamilies,
    evidence: ["UNet block names", "no tensor tells the text condition's width"],
    unsupported: null,
  };
}
