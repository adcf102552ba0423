// Which graph an engine of a structure runs: shipped bundles, then those exported on this computer, found by structure hash alone.

import { spawn } from "node:child_process";
import { readFile, readdir } from "node:fs/promises";
import { delimiter, join } from "node:path";
import { createInterface } from "node:readline";
import { Failure } from "../failure/index.ts";
import { packageRoot } from "../package-root.ts";

export interface Port {
  readonly name: string;
  /** "float": the variant's own float type. */
  readonly dtype: string;
  readonly shape: readonly (number | string)[];
}

/** The part of `graph.json` that the sidecar reads; the host checks the whole of it at load. */
export interface GraphBundle {
  readonly folder: string;
  readonly name: string;
  readonly structure: string;
  readonly inputs: readonly Port[];
  readonly outputs: readonly Port[];
  readonly residuals: readonly Port[];
  readonly variants: Readonly<Record<string, string>>;
  readonly parameters: Readonly<Record<string, readonly number[]>>;
  readonly fixed: ReadonlySet<string>;
}

interface GraphFile {
  readonly formatVersion: number;
  readonly name: string;
  readonly structure: string;
  readonly inputs: readonly Port[];
  readonly outputs: readonly Port[];
  readonly residuals?: readonly Port[];
  readonly variants: Readonly<Record<string, string>>;
  readonly refitMap: readonly { readonly parameter: string; readonly shape: readonly number[]; readonly slice: { readonly start: number; readonly length: number } | null; readonly refittable: boolean }[];
}

/** A fused parameter has one row per weight: its own shape is the rows together. */
function parametersOf(file: GraphFile): Pick<GraphBundle, "parameters" | "fixed"> {
  const parameters: Record<string, readonly number[]> = {};
  const fixed = new Set<string>();
  for (const row of file.refitMap) {
    const known = parameters[row.parameter];
    const rows = row.slice === null ? (row.shape[0] ?? 0) : Math.max(row.slice.start + row.slice.length, known?.[0] ?? 0);
    parameters[row.parameter] = row.shape.length === 0 ? [] : [rows, ...row.shape.slice(1)];
    if (!row.refittable) fixed.add(row.parameter);
  }
  return { parameters, fixed };
}

async function readBundle(folder: string): Promise<GraphBundle> {
  const file = JSON.parse(await readFile(join(folder, "graph.json"), "utf8")) as GraphFile;
  if (file.formatVersion !== 1) throw new Failure("ENGINE_GRAPH_VERSION", `expected a graph of format 1, ${file.name} has ${file.formatVersion}; export it again`, {});
  return { folder, name: file.name, structure: file.structure, inputs: file.inputs, outputs: file.outputs, residuals: file.residuals ?? [], variants: file.variants, ...parametersOf(file) };
}

export interface Graphs {
  /** Null when no bundle of this structure is here yet. */
  readonly find: (structure: string) => GraphBundle | null;
  /** Exports the graph of a checkpoint's structure with the configured Python. Throws ENGINE_GRAPH_MISSING (no Python) and ENGINE_GRAPH_EXPORT_FAILED. */
  readonly exportFor: (structure: string, checkpointPath: string, onLine: (line: string) => void, signal: AbortSignal) => Promise<GraphBundle>;
}

export interface GraphsOptions {
  /** Where exported bundles are kept. */
  readonly folder: string;
  readonly python: string | null;
  readonly onBadBundle: (name: string, error: unknown) => void;
}

export async function openGraphs(options: GraphsOptions): Promise<Graphs> {
  const bundles = new Map<string, GraphBundle>();
  for (const parent of [join(packageRoot, "graphs"), options.folder]) {
    for (const entry of await readdir(parent, { withFileTypes: true }).catch(() => [])) {
      if (!entry.isDirectory() || entry.name.startsWith(".")) continue;
      try {
        const bundle = await readBundle(join(parent, entry.name));
        bundles.set(bundle.structure, bundle);
      } catch (error) {
        options.onBadBundle(entry.name, error);
      }
    }
  }
  return {
    find: (structure) => bundles.get(structure) ?? null,
    async exportFor(structure, checkpointPath, onLine, signal) {
      if (options.python === null) {
        throw new Failure("ENGINE_GRAPH_MISSING", "no graph of this checkpoint's structure is shipped, and no Python with diffusers is configured to make one; pass --python, or run \"refit-sidecar graph export\" with one", { structure });
      }
      const folder = join(options.folder, structure.slice(0, 16));
      await runExport(options.python, checkpointPath, folder, onLine, signal);
      const bundle = await readBundle(folder);
      if (bundle.structure !== structure) throw new Failure("ENGINE_GRAPH_EXPORT_FAILED", "the exported graph belongs to another structure than the checkpoint; was the file replaced meanwhile? Try again", { expected: structure, got: bundle.structure });
      bundles.set(structure, bundle);
      return bundle;
    },
  };
}

/** `python -m refit_graphs`; progress lines come on stderr, the verdict as the last line of stdout. */
export async function runExport(python: string, checkpointPath: string, out: string, onLine: (line: string) => void, signal: AbortSignal): Promise<Record<string, unknown>> {
  const hosts = join(packageRoot, "hosts", "python");
  const child = spawn(python, ["-m", "refit_graphs", "--header", checkpointPath, "--out", out], {
    stdio: ["ignore", "pipe", "pipe"],
    signal,
    env: { ...process.env, PYTHONPATH: [hosts, process.env["PYTHONPATH"]].filter(Boolean).join(delimiter) },
  });
  let verdict = "";
  createInterface({ input: child.stdout }).on("line", (line) => void (verdict = line));
  createInterface({ input: child.stderr }).on("line", onLine);
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once("error", (cause) => reject(signal.aborted ? (signal.reason as Error) : new Failure("ENGINE_GRAPH_EXPORT_FAILED", "the configured Python could not be started; check --python", {}, { cause })));
    child.once("close", resolve);
  });
  let result: Record<string, unknown>;
  try {
    result = JSON.parse(verdict) as Record<string, unknown>;
  } catch {
    throw new Failure("ENGINE_GRAPH_EXPORT_FAILED", `the graph export ended with status ${code} and no verdict; run "refit-sidecar graph export" to see its output`, { status: code });
  }
  if (result["ok"] !== true) throw new Failure("ENGINE_GRAPH_EXPORT_FAILED", typeof result["message"] === "string" ? result["message"] : `the graph export ended with status ${code}`, { code: result["code"] });
  return result;
}
