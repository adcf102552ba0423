import { mkdtemp, rm, statfs } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Failure } from "../failure/index.ts";
import type { HostCommand } from "../host/index.ts";
import { openEngine } from "./engine-under-test.ts";
import type { EngineUnderTest } from "./engine-under-test.ts";
import { openRealModel, realModelBytes } from "./real-model.ts";
import type { RealSize } from "./real-model.ts";
import { openSmallModel } from "./small-model.ts";
import type { Precision } from "./small-model.ts";
import type { Wanted } from "../refit/index.ts";
import type { FrameTensor } from "@refit-sidecar/protocol";

/** A row of a benchmark's file, in the form of bench/summary.py: docs/evidence/benchmark.md is made of such rows. */
export interface BenchRow {
  readonly phase: "swap" | "strength" | "stack" | "back" | "checkpoint" | "step" | "first" | "memory";
  readonly by: "refit";
  readonly how: string;
  readonly model: string;
  readonly precision: string;
  readonly layers?: number;
  readonly rank?: number;
  readonly stack?: number;
  readonly unit: "ms" | "bytes";
  readonly p50: number;
  /** Null for a single measurement. */
  readonly p95: number | null;
  readonly n: number;
}

/** The states that are timed, of the demo's model or of one of real size. */
interface BenchModel {
  readonly name: string;
  readonly layers: number;
  readonly rank: number;
  readonly inputs: readonly FrameTensor[];
  readonly spec: (hostKind: string, precision: Precision) => Parameters<typeof openEngine>[1];
  /** Strengths of the two adapters; 0 leaves one out. */
  readonly wanted: (checkpoint: 0 | 1, strengths: readonly [number, number]) => Wanted;
}

export interface BenchOptions {
  readonly command: HostCommand;
  /** Null: the demo's model. */
  readonly size: RealSize | null;
  /** Null: fp32 on a CPU, fp16 on a GPU. */
  readonly precision: Precision | null;
  readonly repeats: number;
  readonly onRow: (row: BenchRow) => void;
}

export interface HostBench {
  readonly versions: Readonly<Record<string, string>>;
  readonly rows: readonly BenchRow[];
}

/** How long a faster way of stepping is waited for. */
const compileMs = 300_000;

/** Median and 95th percentile, by the nearest rank, to a hundredth. */
export function spread(values: readonly number[]): Pick<BenchRow, "p50" | "p95" | "n"> {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (share: number): number => sorted[Math.min(sorted.length - 1, Math.ceil(share * sorted.length) - 1)] ?? Number.NaN;
  const rounded = (value: number): number => Math.round(value * 100) / 100;
  return { p50: rounded(at(0.5)), p95: values.length === 1 ? null : rounded(at(0.95)), n: values.length };
}

async function modelOf(folder: string, size: RealSize | null): Promise<BenchModel> {
  if (size === null) {
    const model = await openSmallModel(folder);
    return {
      name: "demo",
      layers: model.layers,
      rank: model.rank,
      inputs: model.inputs,
      spec: (kind, precision) => model.spec(kind, precision),
      wanted: (checkpoint, [a, b]) =>
        model.wanted(checkpoint === 0 ? "base" : "baked", [
          ...(a === 0 ? [] : [["only-sevens", a] as const]),
          ...(b === 0 ? [] : [["thick-strokes", b] as const]),
        ]),
    };
  }
  const [need, { bavail, bsize }] = [await realModelBytes(size), await statfs(folder)];
  if (bavail * bsize < need)
    throw new Failure(
      "INSTALL_NO_SPACE",
      `expected ${(need / 1e9).toFixed(1)} GB of free space in the system's temporary folder for a model of the size ${size}; it has ${((bavail * bsize) / 1e9).toFixed(1)} GB. Free some, or choose a smaller --size`,
      {},
    );
  const model = await openRealModel(folder, size);
  return {
    name: size === "sdxl" ? "SDXL" : "SD 1.5",
    layers: model.layers,
    rank: model.rank,
    inputs: model.inputs,
    spec: (kind, precision) => model.spec(kind, precision),
    wanted: (checkpoint, strengths) => model.stacked(checkpoint, strengths),
  };
}

/** Times every change of a stack, and the step, on one host in a process of its own. Throws what starting it throws. */
export async function benchHost({ command, size, precision, repeats, onRow }: BenchOptions): Promise<HostBench> {
  const folder = await mkdtemp(join(tmpdir(), "refit-bench-"));
  let engine: EngineUnderTest | null = null;
  try {
    const model = await modelOf(folder, size);
    const probe = await openEngine(command, model.spec(command.kind, precision ?? "f32"), () => undefined);
    const { about } = await probe.host();
    await probe.close();
    const chosen = precision ?? (about.device.type === "cpu" ? "f32" : "f16");
    engine = await openEngine(command, model.spec(command.kind, chosen), () => undefined);
    const rows = await measure(engine, model, command.kind, chosen, repeats, onRow);
    return { versions: about.versions, rows };
  } finally {
    await engine?.close();
    await rm(folder, { recursive: true, force: true });
  }
}

async function measure(
  engine: EngineUnderTest,
  model: BenchModel,
  host: string,
  precision: Precision,
  repeats: number,
  onRow: (row: BenchRow) => void,
): Promise<readonly BenchRow[]> {
  const rows: BenchRow[] = [];
  const precisionName = { f32: "fp32", f16: "fp16", bf16: "bf16" }[precision as "f32" | "f16" | "bf16"] ?? precision;
  const adapted = { layers: model.layers, rank: model.rank };
  const add = (row: Pick<BenchRow, "phase" | "how" | "unit" | "p50" | "p95" | "n"> & Partial<BenchRow>): void => {
    const whole: BenchRow = { by: "refit", model: model.name, precision: precisionName, ...row };
    rows.push(whole);
    onRow(whole);
  };
  const bring = (checkpoint: 0 | 1, a: number, b = 0): Promise<number> => engine.bring(model.wanted(checkpoint, [a, b]));
  const repeated = async (work: (turn: number) => Promise<number>, times = repeats): Promise<readonly number[]> => {
    const values: number[] = [];
    for (let turn = 0; turn < times; turn += 1) values.push(await work(turn));
    return values;
  };
  const how = (tier: string | null): string => (tier === null ? host : `${host}, ${tier}`);
  const step = async (): Promise<void> => {
    await engine.step(model.inputs);
    const values = await repeated(async () => (await engine.step(model.inputs)).ms);
    add({ phase: "step", how: how(await engine.tier()), unit: "ms", ...spread(values) });
  };

  const began = performance.now();
  await bring(0, 0);
  await engine.step(model.inputs);
  add({ phase: "first", how: host, unit: "ms", ...spread([performance.now() - began]) });
  await step();
  const first = await engine.tier();
  const deadline = performance.now() + compileMs;
  while ((await engine.compiling()) && performance.now() < deadline) {
    await engine.step(model.inputs);
    await new Promise((wake) => setTimeout(wake, 500));
  }
  const tier = await engine.tier();
  if (tier !== first) await step();

  // Once each, so that a change is timed without the first reading of its file.
  await bring(0, 1);
  await bring(0, 0, 1);
  add({ phase: "swap", how: how(tier), ...adapted, unit: "ms", ...spread(await repeated((turn) => bring(0, (turn + 1) % 2, turn % 2))) });
  await bring(0, 1);
  add({ phase: "strength", how: how(tier), ...adapted, unit: "ms", ...spread(await repeated((turn) => bring(0, 0.2 + (turn % 5) / 10))) });
  const [stacks, backs]: [number[], number[]] = [[], []];
  for (let turn = 0; turn < repeats; turn += 1) {
    stacks.push(await bring(0, 0.8, 0.4));
    backs.push(await bring(0, 0));
  }
  add({ phase: "stack", how: how(tier), ...adapted, stack: 2, unit: "ms", ...spread(stacks) });
  add({ phase: "back", how: how(tier), ...adapted, stack: 0, unit: "ms", ...spread(backs) });
  const changes = await repeated((turn) => bring(turn % 2 === 0 ? 1 : 0, 0), Math.min(repeats, 6));
  add({ phase: "checkpoint", how: how(tier), unit: "ms", ...spread(changes) });
  add({ phase: "memory", how: how(tier), unit: "bytes", ...spread([await engine.memoryBytes()]) });
  return rows;
}
