// Scales that PEFT keeps in the file's metadata instead of alpha tensors (extended mode; ComfyUI takes 1.0).

/** rank → scale for a module name; null when the metadata says nothing of it. */
export type MetadataScales = (module: string, rank: number) => number | null;

const nothing: MetadataScales = () => null;

/** Reads `lora_adapter_metadata` as diffusers writes it. Anything malformed counts as absent: metadata is a hint by anyone. */
export function metadataScales(metadata: Readonly<Record<string, string>>): MetadataScales {
  const text = metadata["lora_adapter_metadata"];
  if (text === undefined) return nothing;
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    return nothing;
  }
  if (typeof parsed !== "object" || parsed === null) return nothing;
  const fields = new Map<string, unknown>(Object.entries(parsed));
  const component = ["transformer.", "unet.", ""].find((prefix) => fields.has(`${prefix}lora_alpha`));
  if (component === undefined) return nothing;
  const field = (name: string): unknown => fields.get(component + name);
  const alpha = positive(field("lora_alpha"));
  if (alpha === null) return nothing;
  const alphaPattern = patterns(field("alpha_pattern"));
  const rootScaled = field("use_rslora") === true;
  return (module, rank) => {
    if (rank <= 0) return null;
    const own = alphaPattern.find(([name]) => module === name || module.endsWith(`.${name}`))?.[1] ?? alpha;
    return own / (rootScaled ? Math.sqrt(rank) : rank);
  };
}

const positive = (value: unknown): number | null => (typeof value === "number" && Number.isFinite(value) && value >= 0 ? value : null);

/** PEFT matches patterns as regular expressions at the end of module names; in files they are plain names, and only those are taken. */
function patterns(value: unknown): [string, number][] {
  if (typeof value !== "object" || value === null) return [];
  return Object.entries(value).flatMap(([name, entry]) => {
    const number = positive(entry);
    return number === null ? [] : [[name, number] as [string, number]];
  });
}
