// Which names are looked at, by name alone.

export type NameClass =
  | "tensors"
  /** Table of a sharded checkpoint. */
  | "index"
  /** A weight format that is refused: pickles can run code when read, others cannot be merged in place. */
  | "refused"
  | "ignored";

const refusedFormats = /\.(ckpt|pt|pt2|pth|pkl|pickle|gguf)$/i;

export function classifyName(baseName: string): NameClass {
  if (baseName.startsWith(".")) return "ignored";
  // `.trt_lora`: exported deltas, safetensors inside.
  if (/\.(safetensors|sft|trt_lora)$/i.test(baseName)) return "tensors";
  if (/\.safetensors\.index(\.[\w-]+)?\.json$/i.test(baseName)) return "index";
  if (refusedFormats.test(baseName)) return "refused";
  return "ignored";
}

/** Hidden folders hold caches, histories and half-finished downloads (`.cache`, `.git`, `.Trash`), never models that a user placed. */
export function isSearchedFolder(baseName: string): boolean {
  return !baseName.startsWith(".");
}

/** Node decodes a name that is not UTF-8 with replacement characters; such a name cannot be opened again. */
export function isDecodable(name: string): boolean {
  return !name.includes("\ufffd");
}

const controlSuffix = ".aria2";

/** aria2 preallocates under the final name and keeps this file beside it until the download is done. */
export function controlFileOf(path: string): string {
  return `${path}${controlSuffix}`;
}

/** The file that a control file belongs to; null for any other name. */
export function controlledFile(path: string): string | null {
  return path.endsWith(controlSuffix) ? path.slice(0, -controlSuffix.length) : null;
}
