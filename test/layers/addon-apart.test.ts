// The pass without the native addon leaves these parts out; that is only right as long as none of them can reach it.

import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";
import { addonApart } from "../../vitest.config.ts";

const src = fileURLToPath(new URL("../../sidecar/src/", import.meta.url));
const sources = (folder: string): string[] =>
  readdirSync(folder, { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".ts"))
    .map((name) => join(folder, name));
/** Modules whose values a file takes. */
const valuesOf = (path: string): string[] =>
  [
    ...readFileSync(path, "utf8").matchAll(
      /^(?:import|export)\s(?!type\s)[^;]*?from\s"([^"]+)"|^import\s"([^"]+)"|\bimport\("([^"]+)"\)/gm,
    ),
  ].map((match) => match[1] ?? match[2] ?? match[3] ?? "");

function reached(starts: readonly string[]): Set<string> {
  const seen = new Set<string>();
  const waiting = [...starts];
  for (let path = waiting.pop(); path !== undefined; path = waiting.pop()) {
    if (seen.has(path)) continue;
    seen.add(path);
    if (!existsSync(path)) continue;
    for (const module of valuesOf(path)) waiting.push(module.startsWith(".") ? resolve(dirname(path), module) : module);
  }
  return seen;
}

it("finds the addon where it is used", () => {
  expect(reached(sources(join(src, "delta")))).toContain("@refit-sidecar/native");
});

it.each(addonApart)("%s cannot reach the native addon", (part) => {
  const files = sources(join(src, part));
  expect(files.length).toBeGreaterThan(0);
  expect([...reached(files)].filter((module) => module.includes("native") && module !== "@refit-sidecar/native/replace-file")).toEqual([]);
});
