// Everything that can be said of an adapter from its header.

import type { Dtype } from "@refit-sidecar/native";
import type { Family } from "../catalog/types.ts";
import {
  decodeDeltaHeader,
  detectAdapterFamily,
  foreignKey,
  isDeltaFile,
  isReduxFile,
  kindSuffixes,
  metadataHints,
  moduleElements,
  moduleName,
  moduleRank,
  splitKey,
  touchedParameters,
  type AdapterFamily,
  type DeltaHeader,
  type KeyReport,
  type Parameters,
} from "../terms/index.ts";
import { recogniseAdapter } from "./recognise/recognise-adapter.ts";

export interface AdapterHeader {
  readonly tensors: ReadonlyMap<string, { readonly dtype: Dtype; readonly shape: readonly number[] }>;
  readonly metadata: Readonly<Record<string, string>>;
}

export interface AdapterInspection {
  readonly kind: "adapter" | "exported delta" | "TensorRT-Redux weights";
  readonly family: AdapterFamily;
  /** Kinds by number of modules, most frequent first. */
  readonly kinds: Readonly<Record<string, number>>;
  readonly dora: number;
  /** Number of modules by rank. */
  readonly ranks: Readonly<Record<string, number>>;
  readonly hints: Readonly<Record<string, string>>;
  /** Modules for the denoiser, as the file names them. */
  readonly modules: readonly string[];
  /** Values that a refit would write, and their bytes at f16; from module shapes, a fused parameter's parts counted singly. 0 for an exported delta. */
  readonly refit: { readonly values: number; readonly bytesF16: number };
  readonly foreign: Readonly<Record<string, number>>;
  /** Only with a checkpoint: parameters that would be written, and the fate of each key. */
  readonly against: { readonly parameters: readonly string[]; readonly report: KeyReport } | null;
}

const increment = (counts: Map<string, number>, name: string): void => void counts.set(name, (counts.get(name) ?? 0) + 1);
const byCount = (counts: ReadonlyMap<string, number>): Record<string, number> =>
  Object.fromEntries([...counts].sort((a, b) => b[1] - a[1]));

/** Reads no tensor data. Throws Failure DELTA_DAMAGED or DELTA_VERSION for an exported delta that is not whole. Alpha values are unknown here, so `against` tells names and shapes apart, not scales. */
export function inspectAdapter(
  header: AdapterHeader,
  checkpoint?: { readonly family: Family; readonly parameters: Parameters },
): AdapterInspection {
  const { tensors, metadata } = header;
  if (isDeltaFile(metadata)) return inspectDelta(decodeDeltaHeader(metadata));
  const shapes = new Map([...tensors].map(([key, { shape }]) => [key, shape]));
  const foreign = new Map<string, number>();
  const modules = new Set<string>();
  for (const key of tensors.keys()) {
    const reason = foreignKey(key);
    const module = moduleName(key);
    if (reason !== null) increment(foreign, reason);
    else if (module !== null) modules.add(module);
  }
  const kinds = new Map<string, number>();
  const ranks = new Map<string, number>();
  let dora = 0;
  let values = 0;
  for (const module of modules) {
    for (const [kind, suffixes] of Object.entries(kindSuffixes))
      if (suffixes.some((suffix) => tensors.has(module + suffix))) increment(kinds, kind);
    if (tensors.has(`${module}.dora_scale`) || tensors.has(`${module}.lora_magnitude_vector`)) dora += 1;
    const rank = moduleRank(shapes, module);
    if (rank !== null) increment(ranks, String(rank));
    values += moduleElements(shapes, module) ?? 0;
  }
  return {
    kind: isReduxFile(metadata) ? "TensorRT-Redux weights" : "adapter",
    family: detectAdapterFamily(shapes, metadata),
    kinds: byCount(kinds),
    dora,
    ranks: byCount(ranks),
    hints: metadataHints(metadata),
    modules: [...modules],
    refit: { values, bytesF16: values * 2 },
    foreign: byCount(foreign),
    against: checkpoint ? against(header, checkpoint) : null,
  };
}

/** An exported delta says itself what it is for; its factors carry no names. */
function inspectDelta({ family, structure, terms, report, bytes }: DeltaHeader): AdapterInspection {
  const kinds = new Map<string, number>();
  for (const { kind } of terms) increment(kinds, kind);
  const parameters = [...touchedParameters(terms)];
  const evidence = [`exported for the structure ${structure.slice(0, 16)}, ${bytes} bytes of factors`];
  return {
    kind: "exported delta",
    family: { family, candidates: [family], evidence, unsupported: null },
    kinds: byCount(kinds),
    dora: terms.filter(({ doraScale }) => doraScale !== undefined).length,
    ranks: {},
    hints: {},
    modules: parameters,
    refit: { values: 0, bytesF16: 0 },
    foreign: {},
    against: { parameters, report },
  };
}

function against(
  { tensors, metadata }: AdapterHeader,
  { family, parameters }: { readonly family: Family; readonly parameters: Parameters },
): NonNullable<AdapterInspection["against"]> {
  const withKeys = new Map(
    [...tensors].map(([key, { dtype, shape }]) => [
      key,
      { key, dtype, shape, ...(splitKey(key).some(({ suffix }) => suffix === ".alpha") ? { numbers: [1] } : {}) },
    ]),
  );
  const { terms, report } = recogniseAdapter({ tensors: withKeys, metadata, family, parameters, mode: "comfyui" });
  return { parameters: [...touchedParameters(terms)], report };
}
