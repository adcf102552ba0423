// Reading the TOML configuration file and ComfyUI's extra_model_paths.yaml.

import { readFile } from "node:fs/promises";
import { dirname, isAbsolute, resolve } from "node:path";
import { parse as parseToml } from "smol-toml";
import { parse as parseYaml } from "yaml";
import { Failure } from "../failure/index.ts";
import type { Source } from "./resolve.ts";
import { optionTable } from "./table.ts";

const pathOptions = new Set<string>(
  optionTable.filter((spec) => spec.type === "folder" || (spec.type === "list" && spec.paths)).map((spec) => spec.name),
);

/** Values of a TOML file. Relative folders are resolved against the file's own folder, so that the file can be moved with its models. */
export async function fileSource(path: string): Promise<Source> {
  let values: Record<string, unknown>;
  try {
    values = parseToml(await readFile(path, "utf8"));
  } catch (cause) {
    throw new Failure(
      "OPTIONS_FILE",
      `the configuration file could not be read as TOML: ${cause instanceof Error ? cause.message : String(cause)}`,
      { path },
      { cause },
    );
  }
  const base = dirname(resolve(path));
  const anchor = (value: unknown): unknown =>
    typeof value === "string" && value !== "" ? resolve(base, value) : Array.isArray(value) ? value.map(anchor) : value;
  const anchored = Object.fromEntries(Object.entries(values).map(([name, value]) => [name, pathOptions.has(name) ? anchor(value) : value]));
  return { label: (name) => `configuration file: ${name}`, values: anchored };
}

/** Folders that a ComfyUI extra_model_paths.yaml names, by our kinds. Sections, `base_path`, and newline-separated lists as ComfyUI reads them. */
export async function comfyuiFolders(
  path: string,
): Promise<{ readonly loras: readonly string[]; readonly checkpoints: readonly string[] }> {
  let document: unknown;
  try {
    document = parseYaml(await readFile(path, "utf8"));
  } catch (cause) {
    throw new Failure(
      "OPTIONS_FILE",
      `extra_model_paths.yaml could not be read as YAML: ${cause instanceof Error ? cause.message : String(cause)}`,
      { path },
      { cause },
    );
  }
  const found = { loras: [] as string[], checkpoints: [] as string[] };
  if (typeof document !== "object" || document === null) return found;
  const yamlFolder = dirname(resolve(path));
  for (const section of Object.values(document)) {
    if (typeof section !== "object" || section === null) continue;
    const entries = section as Record<string, unknown>;
    const given = typeof entries["base_path"] === "string" ? entries["base_path"] : "";
    const base = isAbsolute(given) ? given : resolve(yamlFolder, given);
    const list = (name: string): string[] => {
      const value = entries[name];
      return typeof value === "string"
        ? value
            .split("\n")
            .map((line) => line.trim())
            .filter((line) => line !== "")
            .map((line) => resolve(base, line))
        : [];
    };
    found.loras.push(...list("loras"));
    found.checkpoints.push(...list("checkpoints"), ...list("diffusion_models"), ...list("unet"));
  }
  return { loras: [...new Set(found.loras)], checkpoints: [...new Set(found.checkpoints)] };
}
