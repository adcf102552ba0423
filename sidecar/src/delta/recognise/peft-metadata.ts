// Scales that trainers keep in the file's metadata instead of alpha tensors (extended mode; ComfyUI takes 1.0).

/** rank → scale for a module name; null when the metadata says nothing of it. */
export type MetadataScales = (module: string, rank: number) => number | null;

const nothing: MetadataScales = () => null;

/** In front of a field's name: the part of the pipeline that it is for. */
const components = ["transformer.", "unet.", "diffusion_model.", "denoiser.", ""] as const;

/** An alpha for all modules, as trainers call it. Not `ss_network_alpha`: kohya's files carry alpha tensors, and it only repeats them. */
const alphaNames = ["lora_alpha", "network_alpha", "alpha"] as const;

/** Reads `lora_adapter_metadata` as diffusers writes it, else flat fields (`transformer.lora_alpha`, `network_alpha`, `alpha`). Anything malformed counts as absent: metadata is a hint by anyone. */
export function metadataScales(metadata: Readonly<Record<string, string>>): MetadataScales {
  const nested = parsedFields(metadata["lora_adapter_metadata"]);
  const scales = nested === null ? null : scalesOf((name) => numberOnly(nested.get(name)), ["lora_alpha"]);
  return scales ?? scalesOf((name) => metadata[name], alphaNames) ?? nothing;
}

function parsedFields(text: string | undefined): ReadonlyMap<string, unknown> | null {
  if (text === undefined) return null;
  try {
    const parsed: unknown = JSON.parse(text);
    return typeof parsed === "object" && parsed !== null ? new Map<string, unknown>(Object.entries(parsed)) : null;
  } catch {
    return null;
  }
}

function scalesOf(fieldOf: (name: string) => unknown, names: readonly string[]): MetadataScales | null {
  for (const component of components) {
    const field = (name: string): unknown => fieldOf(component + name);
    const alpha = names.map((name) => positive(field(name))).find((value) => value !== null);
    if (alpha === undefined || alpha === null) continue;
    const alphaPattern = patterns(field("alpha_pattern"));
    const rootScaled = /^true$/i.test(String(field("use_rslora") ?? field("rslora")));
    return (module, rank) => {
      if (rank <= 0) return null;
      const own = alphaPattern.find(([name]) => module === name || module.endsWith(`.${name}`))?.[1] ?? alpha;
      return own / (rootScaled ? Math.sqrt(rank) : rank);
    };
  }
  return null;
}

/** JSON tells numbers from texts: a number in quotes is no field of PEFT's. */
const numberOnly = (value: unknown): unknown => (typeof value === "string" ? undefined : value);

/** A number, or a text that is one: flat metadata holds texts only. */
function positive(value: unknown): number | null {
  const number = typeof value === "string" && /^\s*[\d.]+(e[+-]?\d+)?\s*$/i.test(value) ? Number(value) : value;
  return typeof number === "number" && Number.isFinite(number) && number >= 0 ? number : null;
}

/** PEFT matches patterns as regular expressions at the end of module names; in files they are plain names, and only those are taken. Flat metadata has them as JSON. */
function patterns(value: unknown): [string, number][] {
  const table =
    typeof value === "string"
      ? parsedFields(value)
      : typeof value === "object" && value !== null
        ? new Map<string, unknown>(Object.entries(value))
        : null;
  return [...(table ?? [])].flatMap(([name, entry]) => {
    const number = positive(entry);
    return number === null ? [] : [[name, number] as [string, number]];
  });
}
