// One host with a small model of six parameters and three adapters, without a graph: the bench that the refit tests stand on.

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { CheckpointSource } from "../../../sidecar/src/catalog/types.ts";
import type { Host, HostCommand, HostReply } from "../../../sidecar/src/host/index.ts";
import { leaveHost, sharedHost } from "./shared-host.ts";
import { planRefit } from "../../../sidecar/src/plan/index.ts";
import type { DesiredState } from "../../../sidecar/src/plan/index.ts";
import {
  floatsOf,
  randomValues,
  stackFiles,
  stackItems,
  writeAdapter,
  writeCheckpoint,
  type Adapter,
  type Parameters,
  type Stacked,
} from "../fixtures.ts";

export const model: Parameters = {
  "input_blocks.0.0.weight": randomValues([8, 4, 3, 3], 1),
  "input_blocks.0.0.bias": randomValues([8], 2),
  "middle.attn1.to_q.weight": randomValues([16, 16], 3),
  "middle.attn1.to_k.weight": randomValues([16, 12], 4),
  "middle.norm.weight": randomValues([16], 5),
  "out.weight": randomValues([4, 16], 6),
};
export const otherModel: Parameters = Object.fromEntries(
  Object.entries(model).map(([name, { shape }], index) => [name, randomValues(shape, 100 + index)]),
);
export const names = Object.keys(model);
export const shapes = Object.fromEntries(Object.entries(model).map(([name, { shape }]) => [name, [...shape]]));

export interface Bench {
  readonly host: Host;
  readonly folder: string;
  readonly checkpoint: CheckpointSource;
  readonly other: CheckpointSource;
  /** Touches q and k. */
  readonly a: Adapter;
  /** Touches k and the convolution. */
  readonly b: Adapter;
  /** Touches out alone. */
  readonly c: Adapter;
  readonly load: (engine: string, stack?: readonly Stacked[], verify?: boolean) => Promise<HostReply<"load">>;
  readonly prepare: (
    engine: string,
    from: readonly Stacked[] | null,
    to: readonly Stacked[],
    generation: number,
    options?: { verify?: boolean; signal?: AbortSignal },
  ) => Promise<HostReply<"prepare">>;
  /** Plan, prepare, commit; the new generation. */
  readonly refit: (engine: string, from: readonly Stacked[] | null, to: readonly Stacked[], generation: number) => Promise<number>;
  readonly read: (engine: string) => Promise<Record<string, Float32Array>>;
  readonly checksums: (engine: string) => Promise<Readonly<Record<string, string>>>;
  readonly close: () => Promise<void>;
}

const rank = (parameter: string, rows: number, cols: number, r: number, seed: number, scale: number) => ({
  parameter,
  up: randomValues([rows, r], seed),
  down: randomValues([r, cols], seed + 1),
  scale,
});

export async function openBench(command: HostCommand): Promise<Bench> {
  const folder = await mkdtemp(join(tmpdir(), "refit-host-"));
  const host = await sharedHost(command);
  const checkpoint = await writeCheckpoint(join(folder, "base.safetensors"), model);
  const other = await writeCheckpoint(join(folder, "other.safetensors"), otherModel);
  const a = await writeAdapter(folder, "a", [
    rank("middle.attn1.to_q.weight", 16, 16, 4, 11, 0.25),
    rank("middle.attn1.to_k.weight", 16, 12, 2, 13, 0.5),
  ]);
  const b = await writeAdapter(folder, "b", [
    rank("middle.attn1.to_k.weight", 16, 12, 3, 15, 1),
    rank("input_blocks.0.0.weight", 8, 36, 2, 17, 0.125),
  ]);
  const c = await writeAdapter(folder, "c", [rank("out.weight", 4, 16, 1, 19, 1)]);
  const touches = new Map(
    [a, b, c].map((adapter) => [adapter.sha256, { parameters: adapter.terms.map((term) => term.parameter), reshapes: [] }]),
  );
  const state = (stack: readonly Stacked[]): DesiredState => ({ checkpoint: "base", stack: stackItems(stack) });

  const bench: Bench = {
    host,
    folder,
    checkpoint,
    other,
    a,
    b,
    c,
    load: (engine, stack = [], verify = false) =>
      host.call("load", { engine, graph: null, parameters: shapes, weightDtype: "f32", checkpoint, stack: stackFiles(stack), verify }),
    async prepare(engine, from, to, generation, { verify = false, signal } = {}) {
      const result = planRefit(from === null ? null : state(from), state(to), touches, { names, fixed: new Set() });
      if (result.kind !== "refit") throw new TypeError(`the bench expects a refit, the plan is ${result.kind}`);
      return host.call(
        "prepare",
        { engine, generation, plan: { ...result.plan, writes: [...result.plan.writes] }, checkpoint, stack: stackFiles(to), verify },
        signal === undefined ? {} : { signal },
      );
    },
    async refit(engine, from, to, generation) {
      const { token } = await bench.prepare(engine, from, to, generation);
      return (await host.call("commit", { engine, token })).generation;
    },
    async read(engine) {
      const { tensors } = await host.call("readBack", { engine, parameters: names });
      return Object.fromEntries(tensors.map((tensor) => [tensor.name, floatsOf(tensor.data)]));
    },
    async checksums(engine) {
      return (await host.call("checksums", { engine })).sha256;
    },
    async close() {
      await leaveHost(host);
      await rm(folder, { recursive: true, force: true });
    },
  };
  return bench;
}
