// From a resolved state to the engine that serves it: host, precision, graph.

import type { WireParams } from "@refit-sidecar/protocol";
import { Failure } from "../../failure/index.ts";
import type { Scheduler, Urgency } from "../../jobs/index.ts";
import type { Options } from "../../options/index.ts";
import type { EngineSpec } from "../../refit/index.ts";
import { autoHost } from "./hosts.ts";
import type { HostKind, HostPythons } from "./hosts.ts";
import type { GraphBundle, GraphNeed, Graphs, StepTable } from "./graphs.ts";
import { hostedSpec, servedWithoutGraph, torchAlone } from "./hosted.ts";
import { weightDtypes } from "../answers/views.ts";
import type { ResolvedCheckpoint } from "./resolver.ts";

export type Precision = keyof typeof weightDtypes;

export interface SpecRequest {
  readonly host: WireParams<"engine.prepare">["host"];
  readonly precision: WireParams<"engine.prepare">["precision"];
  readonly residuals: boolean;
}

export interface SpecParts {
  readonly graphs: Graphs;
  readonly jobs: Scheduler;
  readonly options: () => Pick<Options, "host" | "precision">;
  readonly pythons: HostPythons;
  /** Which GPU host won on this computer. */
  readonly winner: (structure: string, dtype: EngineSpec["precision"]) => "torch" | "tensorrt" | null;
  /** Whether there may be a card. */
  readonly card: () => boolean;
  /** Whether that host computes on the processor: asked only where host or precision is left open. Starts the host, which the engine needs anyway. */
  readonly onProcessor: (hostKind: string) => Promise<boolean>;
}

/** The torch host steps on PyTorch's own modules: of a graph it reads the table only. */
export const graphNeed = (hostKind: string): GraphNeed => (hostKind === "torch" ? "table" : "models");

/** The graph of a structure: here already, or made now, once for everybody who waits for it. What nobody waits for is made while the computer rests. */
export async function graphOf(
  { graphs, jobs }: Pick<SpecParts, "graphs" | "jobs">,
  checkpoint: ResolvedCheckpoint,
  urgency: Urgency,
  need: GraphNeed,
): Promise<GraphBundle> {
  const { structure } = checkpoint.target;
  const known = graphs.find(structure, need);
  if (known) return known;
  const failed = graphs.failure(structure, need);
  if (failed) throw failed;
  const { result } = jobs.submit({
    key: `graph ${need} ${structure}`,
    kind: "graph",
    title: need === "models" ? `Export the graph of ${checkpoint.entry.name}` : `Read the structure of ${checkpoint.entry.name}`,
    urgency,
    atRest: true,
    run: ({ signal, progress, background, awaited }) =>
      graphs.exportFor(
        structure,
        checkpoint.target.parameters,
        (line) => progress({ stage: line.slice(0, 200), done: 0, total: 0 }),
        signal,
        {
          need,
          ...(background() ? { quietUntil: awaited } : {}),
        },
      ),
  });
  return result;
}

/** fp32 on a processor, whatever the host: there is no memory to save there, and fp16 costs a few percent of an adapter's effect. fp16 on a GPU. */
async function autoPrecision({ onProcessor }: SpecParts, hostKind: string, { variants }: GraphBundle): Promise<Precision> {
  if (hostKind === "onnxruntime") return "fp32";
  return variants["fp32"] !== undefined && (await onProcessor(hostKind)) ? "fp32" : "fp16";
}

/** What only the torch host can do: some families, and precisions that no ONNX graph has. */
const needsTorch = (checkpoint: ResolvedCheckpoint, precision: "auto" | Precision): boolean =>
  torchAlone(checkpoint.target) || (precision !== "auto" && precision !== "fp32" && precision !== "fp16");

/**
 * The host for a request that names none, and the one to take when its graph cannot be made. On a processor the embedded host steps faster than PyTorch, so torch gets there only what needs it.
 */
async function meantHost(
  parts: SpecParts,
  checkpoint: ResolvedCheckpoint,
  precision: "auto" | Precision,
): Promise<{ readonly kind: HostKind; readonly otherwise: HostKind | null }> {
  const { options, pythons, winner, onProcessor } = parts;
  const { host } = options();
  if (host !== "auto") return { kind: host, otherwise: null };
  const onGpu = precision === "auto" ? "fp16" : precision;
  const kind = autoHost("auto", {
    pythons,
    card: parts.card(),
    winner: () => winner(checkpoint.target.structure, weightDtypes[onGpu]),
  });
  const torch = pythons("torch") !== null;
  if (torch && needsTorch(checkpoint, precision)) return { kind: kind === "onnxruntime" ? "torch" : kind, otherwise: null };
  const embedded = kind === "onnxruntime" || (await onProcessor(kind));
  return embedded ? { kind: "onnxruntime", otherwise: torch ? "torch" : null } : { kind, otherwise: null };
}

/** Throws what graphOf and hostedSpec throw, ENGINE_PRECISION for what the graph lacks, ENGINE_SHAPES when graph and checkpoint disagree. */
export async function engineSpec(
  parts: SpecParts,
  checkpoint: ResolvedCheckpoint,
  request: SpecRequest,
): Promise<{ readonly spec: EngineSpec; readonly table: StepTable }> {
  const precision = request.precision === "auto" ? parts.options().precision : request.precision;
  const { kind, otherwise } =
    request.host === "auto" ? await meantHost(parts, checkpoint, precision) : { kind: request.host, otherwise: null };
  const { residuals } = request;
  try {
    return await specOn(parts, checkpoint, { precision, residuals }, kind);
  } catch (error) {
    const noGraph = error instanceof Failure && (error.code === "ENGINE_GRAPH_EXPORT_FAILED" || error.code === "ENGINE_GRAPH_MISSING");
    if (otherwise === null || !noGraph) throw error;
    return specOn(parts, checkpoint, { precision, residuals }, otherwise);
  }
}

async function specOn(
  parts: SpecParts,
  checkpoint: ResolvedCheckpoint,
  { precision, residuals }: Pick<SpecRequest, "precision" | "residuals">,
  hostKind: string,
): Promise<{ readonly spec: EngineSpec; readonly table: StepTable }> {
  const onCpu = precision === "auto" && hostKind === "torch" && servedWithoutGraph(checkpoint.target) && (await parts.onProcessor("torch"));
  const hosted = hostedSpec(checkpoint, {
    kind: hostKind,
    installed: parts.pythons("torch") !== null,
    precision: onCpu ? "fp32" : precision,
    residuals,
  });
  if (hosted !== null) return hosted;
  const bundle = await graphOf(parts, checkpoint, "user", graphNeed(hostKind));
  const wanted = precision === "auto" ? await autoPrecision(parts, hostKind, bundle) : precision;
  // A graph has one float type; bf16 and quantised engines of the torch host run the fp16 graph's structure.
  const variant = hostKind === "onnxruntime" || wanted === "fp32" ? wanted : "fp16";
  // Residual inputs are no other engine: a host opens that variant on the same weights with the first step that brings them.
  for (const needed of residuals ? [variant, `residuals-${variant}`] : [variant]) {
    if (bundle.variants[needed] !== undefined) continue;
    throw new Failure(
      "ENGINE_PRECISION",
      `the graph of this structure has no variant ${needed}; expected one of ${Object.keys(bundle.variants).join(", ")}`,
      { variant: needed },
    );
  }
  for (const [name, shape] of checkpoint.target.parameters) {
    const expected = bundle.parameters[name];
    if (expected !== undefined && expected.join() !== shape.join())
      throw new Failure(
        "ENGINE_SHAPES",
        `${name} has the shape [${shape.join(", ")}] in the checkpoint and [${expected.join(", ")}] in the graph; export the graph again`,
        { parameter: name },
      );
  }
  const names = [...checkpoint.target.parameters.keys()].filter((name) => bundle.parameters[name] !== undefined);
  return {
    table: bundle,
    spec: {
      structure: checkpoint.target.structure,
      precision: weightDtypes[wanted],
      profile: "any",
      hostKind,
      graph: { folder: bundle.folder, variant },
      parameters: { names, fixed: bundle.fixed, shapes: bundle.parameters },
    },
  };
}
