// Which graph an engine of a structure runs: shipped bundles, then those exported on this computer, found by structure hash alone.

import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { Failure } from "../../failure/index.ts";
import { hostEnvironment, pythonRun } from "../../host/index.ts";
import type { HostPython } from "../../host/index.ts";
import { packageRoot } from "../../package-root.ts";
import type { EngineFinger, EngineKey, Store } from "../../store/index.ts";
import type { Parameters } from "../../terms/index.ts";
import type { FailedGraphs } from "./failed-graphs.ts";
import { standingBack } from "./standing-back.ts";
import type { Stores } from "../stores.ts";

export interface Port {
  readonly name: string;
  /** "float": the variant's own float type. */
  readonly dtype: string;
  readonly shape: readonly (number | string)[];
  /** A step may come without it. */
  readonly optional?: boolean;
}

/** What a step takes and gives. */
export interface StepTable {
  readonly inputs: readonly Port[];
  readonly outputs: readonly Port[];
  readonly residuals: readonly Port[];
}

/** The part of `graph.json` that the sidecar reads; the host checks the whole of it at load. */
export interface GraphBundle extends StepTable {
  readonly folder: string;
  readonly name: string;
  readonly structure: string;
  readonly variants: Readonly<Record<string, string>>;
  readonly parameters: Readonly<Record<string, readonly number[]>>;
  readonly fixed: ReadonlySet<string>;
  /** The models that its variants name are there; else it is the table alone. */
  readonly hasModels: boolean;
}

/** The table alone (graph.json), or the ONNX models too. */
export type GraphNeed = "table" | "models";

interface GraphFile {
  readonly formatVersion: number;
  readonly name: string;
  readonly structure: string;
  readonly inputs: readonly Port[];
  readonly outputs: readonly Port[];
  readonly residuals?: readonly Port[];
  readonly variants: Readonly<Record<string, string>>;
  readonly refitMap: readonly {
    readonly parameter: string;
    readonly shape: readonly number[];
    readonly slice: { readonly start: number; readonly length: number } | null;
    readonly refittable: boolean;
  }[];
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
  if (file.formatVersion !== 1)
    throw new Failure("ENGINE_GRAPH_VERSION", `expected a graph of format 1, ${file.name} has ${file.formatVersion}; export it again`, {});
  return {
    folder,
    name: file.name,
    structure: file.structure,
    inputs: file.inputs,
    outputs: file.outputs,
    residuals: file.residuals ?? [],
    variants: file.variants,
    ...parametersOf(file),
    hasModels: Object.values(file.variants).every((model) => existsSync(join(folder, model))),
  };
}

export interface Graphs {
  /** Null when no bundle of this structure with what is needed is here yet. */
  readonly find: (structure: string, need?: GraphNeed) => GraphBundle | null;
  /** Why it cannot be made with the configured Python, from an earlier attempt; null: it was not tried, or something has changed since. */
  readonly failure: (structure: string, need: GraphNeed) => Failure | null;
  /** Makes the graph of a checkpoint's structure with the configured Python. Throws ENGINE_GRAPH_MISSING (no Python) and ENGINE_GRAPH_EXPORT_FAILED. */
  readonly exportFor: (
    structure: string,
    shapes: Parameters,
    onLine: (line: string) => void,
    signal: AbortSignal,
    how?: ExportHow,
  ) => Promise<GraphBundle>;
}

/** `quietUntil`: nobody waits for it before, so it stands back behind everything else. */
export interface ExportHow {
  readonly need?: GraphNeed;
  readonly quietUntil?: Promise<void>;
}

export interface GraphsOptions {
  /** Entries are checked before they are believed, and held: their files are read again when a variant of the graph is first needed. */
  readonly stores: Pick<Stores, "own" | "readable" | "prune">;
  /** Python with torch, diffusers and onnx; null: there is none. */
  readonly python: () => HostPython | null;
  readonly failed: FailedGraphs;
  readonly onBadBundle: (name: string, error: unknown) => void;
}

/** Under which an exported graph is kept: it fits every host, precision, profile and device. */
export function graphKey(structure: string, need: GraphNeed = "models"): EngineKey {
  return {
    structure,
    precision: "any",
    profile: "any",
    host: need === "models" ? "graph" : "graph-table",
    library: "graph 1",
    capability: "any",
    driverBranch: "",
  };
}

const graphFinger: EngineFinger = { libraryVersion: "1", driver: "", device: "" };

export async function openGraphs(options: GraphsOptions): Promise<Graphs> {
  const bundles = new Map<string, GraphBundle>();
  const take = async (folder: string, name: string) => {
    try {
      const bundle = await readBundle(folder);
      if (bundles.get(bundle.structure)?.hasModels !== true) bundles.set(bundle.structure, bundle);
    } catch (error) {
      options.onBadBundle(name, error);
    }
  };
  const shipped = join(packageRoot, "graphs");
  for (const entry of await readdir(shipped, { withFileTypes: true }))
    if (entry.isDirectory()) await take(join(shipped, entry.name), entry.name);
  for (const store of options.stores.readable) {
    for (const { manifest } of await store.list()) {
      if (
        (manifest?.key.host !== "graph" && manifest?.key.host !== "graph-table") ||
        bundles.get(manifest.key.structure)?.hasModels === true
      )
        continue;
      const found = await store.find(manifest.key, graphFinger);
      if (found.found === "hit") {
        await take(found.folder, manifest.key.structure.slice(0, 16));
        store.hold(found.entry);
      } else if (found.found === "damaged") options.onBadBundle(manifest.key.structure.slice(0, 16), found.problem);
    }
  }
  return {
    find(structure, need = "models") {
      const bundle = bundles.get(structure);
      if (bundle === undefined || (need === "models" && !bundle.hasModels)) return null;
      if (existsSync(join(bundle.folder, "graph.json"))) return bundle;
      // Another program has removed it from the store since: it is exported again.
      bundles.delete(structure);
      return null;
    },
    failure(structure, need) {
      const python = options.python();
      return python === null ? null : options.failed.known(structure, need, python);
    },
    async exportFor(structure, shapes, onLine, signal, how = {}) {
      const python = options.python();
      if (python === null) {
        throw new Failure(
          "ENGINE_GRAPH_MISSING",
          'no graph of this checkpoint\'s structure is shipped, and no Python with diffusers is there to make one; run "refit-sidecar host install torch", or pass --python',
          { structure },
        );
      }
      const { folder, entry } = await exportGraph(options.stores.own, python, shapes, structure, onLine, signal, how).catch(
        (error: unknown) => {
          options.failed.note(structure, how.need ?? "models", python, error);
          throw error;
        },
      );
      options.stores.own.hold(entry);
      options.stores.prune();
      const bundle = await readBundle(folder);
      if (bundles.get(structure)?.hasModels !== true || bundle.hasModels) bundles.set(structure, bundle);
      return bundle;
    },
  };
}

/** Exports into the store: staged, checked to be of that structure, published whole or not at all. Throws ENGINE_GRAPH_EXPORT_FAILED and what the store throws. */
export async function exportGraph(
  store: Store,
  python: HostPython,
  shapes: Parameters,
  structure: string,
  onLine: (line: string) => void,
  signal: AbortSignal,
  how: ExportHow = {},
): Promise<{ readonly entry: string; readonly folder: string }> {
  const staging = await store.stage();
  try {
    await runExport(python, shapes, staging.folder, onLine, signal, how);
    const made = await readBundle(staging.folder);
    if (made.structure !== structure)
      throw new Failure(
        "ENGINE_GRAPH_EXPORT_FAILED",
        "the exported graph belongs to another structure than the checkpoint; was the file replaced meanwhile? Try again",
        { expected: structure, got: made.structure },
      );
    return await staging.publish(graphKey(structure, how.need), graphFinger);
  } catch (error) {
    await staging.discard();
    throw error;
  }
}

/** `python -m refit_graphs` on canonical names and shapes: a file's own names may be others (diffusers), or lie in several shards. */
export async function runExport(
  python: HostPython,
  shapes: Parameters,
  out: string,
  onLine: (line: string) => void,
  signal: AbortSignal,
  how: ExportHow = {},
): Promise<Record<string, unknown>> {
  const folder = await mkdtemp(join(tmpdir(), "refit-header-"));
  try {
    const header = join(folder, "header.json");
    await writeFile(header, JSON.stringify(Object.fromEntries([...shapes].map(([name, shape]) => [name, { dtype: "F32", shape }]))));
    return await standingBack((until, started) => exportOf(python, header, out, onLine, until, how.need, started), how.quietUntil, signal);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Progress lines come on stderr, the verdict as the last line of stdout. */
async function exportOf(
  python: HostPython,
  header: string,
  out: string,
  onLine: (line: string) => void,
  signal: AbortSignal,
  need: GraphNeed = "models",
  started: (pid: number) => void = () => undefined,
): Promise<Record<string, unknown>> {
  const { command, args, env } = pythonRun(python, "refit_graphs", [
    "--header",
    header,
    "--out",
    out,
    ...(need === "table" ? ["--table"] : []),
  ]);
  const child = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"], signal, env: hostEnvironment(env) });
  if (child.pid !== undefined) started(child.pid);
  let verdict = "";
  createInterface({ input: child.stdout }).on("line", (line) => void (verdict = line));
  createInterface({ input: child.stderr }).on("line", onLine);
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once("error", (cause) =>
      reject(
        signal.aborted
          ? (signal.reason as Error)
          : new Failure("ENGINE_GRAPH_EXPORT_FAILED", "the configured Python could not be started; check --python", {}, { cause }),
      ),
    );
    child.once("close", resolve);
  });
  let result: Record<string, unknown>;
  try {
    result = JSON.parse(verdict) as Record<string, unknown>;
  } catch {
    throw new Failure(
      "ENGINE_GRAPH_EXPORT_FAILED",
      `the graph export ended with status ${code} and no verdict; run "refit-sidecar graph export" to see its output`,
      { status: code },
    );
  }
  if (result["ok"] !== true)
    throw new Failure(
      "ENGINE_GRAPH_EXPORT_FAILED",
      typeof result["message"] === "string" ? result["message"] : `the graph export ended with status ${code}`,
      { code: result["code"], lasting: result["lasting"] === true, packages: result["packages"] },
    );
  return result;
}
