import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { packageRoot } from "../../package-root.ts";

/** Pinned requirements of one list in hosts/python/requirements, with `{cuda}` filled in. */
export async function readRequirements(
  name: "torch" | "torch-reuse" | "tensorrt",
  fill: Readonly<Record<string, string>> = {},
): Promise<readonly string[]> {
  const text = await readFile(join(packageRoot, "hosts", "python", "requirements", `${name}.txt`), "utf8");
  return text
    .split(/\r?\n/)
    .map((line) => line.trim().replaceAll(/\{(\w+)\}/g, (_, key: string) => fill[key] ?? `{${key}}`))
    .filter((line) => line !== "" && !line.startsWith("#"));
}

/** The name of a requirement as package indexes compare it. */
export const packageName = (requirement: string): string =>
  (/^[A-Za-z0-9._-]+/.exec(requirement)?.[0] ?? requirement).toLowerCase().replaceAll(/[-_.]+/g, "-");
