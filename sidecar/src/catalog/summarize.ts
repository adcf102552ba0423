// From a file's header to what the catalog keeps of it. Pure; the header itself is let go, because 2,000 of them would fill the memory.

import type { TensorEntry } from "@refit-sidecar/native";
import { familyTable } from "@refit-sidecar/protocol";
import { Failure } from "../failure/index.ts";
import { canonicalNames, decodeDeltaHeader, detectAdapterFamily, isDeltaFile, isReduxFile, kindSuffixes } from "../terms/index.ts";
import type { Parameters } from "../terms/index.ts";
import { noNotes, plainTensors } from "../storage/index.ts";
import type { PlainTensors, StorageNotes } from "../storage/index.ts";
import { detectModel } from "./detect/index.ts";
import { unreadableStorage, unreadableText } from "./source.ts";
import { structureOf } from "./structure.ts";
import type { AdapterEntry, CheckpointEntry, Problem } from "./types.ts";
import { incompleteProblem } from "./whole-structure.ts";

/** Where an entry lies, and which content it is: not in its header. */
type Place = "id" | "folder" | "name" | "path" | "sizeBytes" | "identity";
export type AdapterSummary = Omit<AdapterEntry, Place>;
export type CheckpointSummary = Omit<CheckpointEntry, Place | "files">;
export type Summary = AdapterSummary | CheckpointSummary;

/** Tensors of one file, or of all shards together. */
export type Tensors = ReadonlyMap<string, Pick<TensorEntry, "dtype" | "shape">>;

const kindOfSuffix: readonly (readonly [string, string])[] = Object.entries(kindSuffixes).flatMap(([kind, suffixes]) =>
  suffixes.map((suffix) => [suffix, kind] as const),
);

/** The part of a key that tells an adapter tensor's role: the last two dotted parts before `.weight`, else the last one. */
function tailOf(key: string): string {
  const last = key.lastIndexOf(".");
  if (last <= 0) return key;
  if (!key.endsWith(".weight")) return key.slice(last);
  return key.slice(key.lastIndexOf(".", last - 1));
}

/** Keys by kind. Counted by tail, of which a file has a handful, so that each key costs one look-up. */
function adapterKinds(tensors: Tensors): { readonly kinds: readonly string[]; readonly keys: number } {
  const tails = new Map<string, { example: string; count: number }>();
  for (const key of tensors.keys()) {
    const tail = tailOf(key);
    const known = tails.get(tail);
    if (known === undefined) tails.set(tail, { example: key, count: 1 });
    else known.count += 1;
  }
  const kinds = new Set<string>();
  let keys = 0;
  for (const [tail, { example, count }] of tails) {
    const kind = kindOfSuffix.find(([suffix]) => example.endsWith(suffix))?.[1];
    if (kind !== undefined) {
      // OFT and BOFT share the name; BOFT's blocks have a fourth dimension.
      kinds.add(kind === "oft" && tensors.get(example)?.shape.length === 4 ? "boft" : kind);
      keys += count;
    } else if (tail === ".dora_scale") {
      kinds.add("dora");
    }
  }
  return { kinds: [...kinds].sort(), keys };
}

/** The tensors' shapes, made when asked for: a detector looks at many names and few shapes. */
class ShapeView implements Parameters {
  readonly #tensors: Tensors;
  constructor(tensors: Tensors) {
    this.#tensors = tensors;
  }
  get size(): number {
    return this.#tensors.size;
  }
  get(name: string): readonly number[] | undefined {
    return this.#tensors.get(name)?.shape;
  }
  has(name: string): boolean {
    return this.#tensors.has(name);
  }
  keys(): MapIterator<string> {
    return this.#tensors.keys();
  }
  *values(): Generator<readonly number[], undefined, unknown> {
    for (const { shape } of this.#tensors.values()) yield shape;
  }
  *entries(): Generator<[string, readonly number[]], undefined, unknown> {
    for (const [name, { shape }] of this.#tensors) yield [name, shape];
  }
  [Symbol.iterator](): Generator<[string, readonly number[]], undefined, unknown> {
    return this.entries();
  }
  forEach(visit: (shape: readonly number[], name: string, view: Parameters) => void): void {
    for (const [name, shape] of this) visit(shape, name, this);
  }
}

function summarizeAdapter(tensors: Tensors, metadata: Readonly<Record<string, string>>, kinds: readonly string[]): AdapterSummary {
  const detected = detectAdapterFamily(new ShapeView(tensors), metadata);
  const problem: Problem | null =
    detected.unsupported === null
      ? null
      : {
          code: "CATALOG_UNSUPPORTED_MODEL",
          message: `expected an adapter for a model that an engine here can run; this one is for ${detected.unsupported}`,
        };
  return { kind: "adapter", family: detected.family, kinds, tensors: tensors.size, evidence: detected.evidence, problem };
}

/** Adapters that are already packed: an exported delta names its family; a TensorRT-Redux file holds whole weights under a model's own names. */
function summarizePacked(tensors: Tensors, metadata: Readonly<Record<string, string>>): AdapterSummary | null {
  const common = { kind: "adapter" as const, tensors: tensors.size, problem: null };
  if (isReduxFile(metadata)) return { ...common, family: null, kinds: ["redux"], evidence: ["metadata of TensorRT-Redux"] };
  if (!isDeltaFile(metadata)) return null;
  try {
    const { family, terms } = decodeDeltaHeader(metadata);
    return { ...common, family, kinds: [...new Set(terms.map((term) => term.kind))].sort(), evidence: ["metadata of an exported delta"] };
  } catch (error) {
    return {
      ...common,
      family: null,
      kinds: [],
      evidence: [],
      problem: {
        code: error instanceof Failure ? error.code : "DELTA_DAMAGED",
        message: error instanceof Error ? error.message : String(error),
      },
    };
  }
}

function unknownCheckpoint(keyPrefix: string): Omit<CheckpointSummary, "problem"> {
  return {
    kind: "checkpoint",
    family: null,
    variant: null,
    structure: null,
    keyPrefix,
    config: null,
    parameters: 0,
    dtypes: {},
    format: null,
    evidence: [],
  };
}

/** How often each way of storing occurs; a packed or rotated format goes by its name, the rest by the container's dtype. */
function countDtypes(tensors: PlainTensors["tensors"], keys: Iterable<string>): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const key of keys) {
    const tensor = tensors.get(key);
    if (tensor === undefined) continue;
    const { dtype, storage } = tensor;
    const name =
      storage === undefined || storage.format === "scaled"
        ? storage?.rotation === undefined
          ? dtype
          : `${dtype} convrot`
        : storage.format;
    counts[name] = (counts[name] ?? 0) + 1;
  }
  return counts;
}

function summarizeCheckpoint(stored: Tensors, metadata: Readonly<Record<string, string>>, notes: StorageNotes): CheckpointSummary {
  const plain = plainTensors(stored, metadata, notes);
  const { tensors } = plain;
  const names = canonicalNames(new ShapeView(tensors));
  const parameters = new Map<string, readonly number[]>();
  const keys: string[] = [];
  for (const [name, parameter] of names.parameters) {
    parameters.set(name, parameter.shape);
    for (const part of parameter.parts) keys.push(part.key);
  }
  const unreadable = unreadableStorage(plain, names);
  const model = detectModel(parameters, names.family);
  if (model === null || "unsupported" in model) {
    if (model === null && unreadable !== null)
      return {
        ...unknownCheckpoint(names.prefix),
        problem: { code: "CATALOG_UNSUPPORTED_QUANTISATION", message: unreadableText(unreadable) },
      };
    const code = model === null ? "CATALOG_UNKNOWN_ARCHITECTURE" : "CATALOG_UNSUPPORTED_MODEL";
    const found = model === null ? `none of them is known by these ${tensors.size} tensor names` : `this is ${model.unsupported}`;
    const message = `expected a diffusion model of ${familyTable.map(({ title }) => title).join(", ")}; ${found}. Text encoders and VAEs stay in the UI.`;
    return { ...unknownCheckpoint(names.prefix), evidence: model?.evidence ?? [], problem: { code, message } };
  }
  return {
    kind: "checkpoint",
    family: model.family,
    variant: model.variant,
    structure: structureOf(parameters),
    keyPrefix: names.prefix,
    config: model.config,
    parameters: parameters.size,
    dtypes: countDtypes(tensors, keys),
    format: names.format,
    evidence: model.evidence,
    problem:
      unreadable === null
        ? incompleteProblem(model.family, parameters)
        : { code: "CATALOG_UNSUPPORTED_QUANTISATION", message: unreadableText(unreadable) },
  };
}

/** `placed` is what the folder holds; the header decides, and only a header that tells nothing is taken for what its folder says. */
export function summarize(
  tensors: Tensors,
  metadata: Readonly<Record<string, string>>,
  placed: "adapter" | "checkpoint",
  notes: StorageNotes = noNotes,
): Summary {
  const packed = summarizePacked(tensors, metadata);
  if (packed !== null) return packed;
  const { kinds, keys } = adapterKinds(tensors);
  // A few odd names in a checkpoint do not make it an adapter, nor the other way round.
  if (keys * 4 >= tensors.size && keys > 0) return summarizeAdapter(tensors, metadata, kinds);
  const checkpoint = summarizeCheckpoint(tensors, metadata, notes);
  if (checkpoint.family !== null || placed === "checkpoint") return checkpoint;
  const message = `expected a LoRA or LyCORIS file; none of its ${tensors.size} tensor names is one of theirs`;
  return {
    kind: "adapter",
    family: null,
    kinds,
    tensors: tensors.size,
    evidence: [],
    problem: { code: "CATALOG_NOT_AN_ADAPTER", message },
  };
}
