import { copyFileSync, mkdtempSync, readFileSync, readdirSync, renameSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Failure } from "../../../sidecar/src/failure/index.ts";
import { goldenPath } from "../../golden/cases.ts";
import { demoCheckpoint, demoLora, idOf, liveStack, output, startBench, statusOf, step, until } from "./harness.ts";
import type { Bench } from "./harness.ts";

let bench: Bench;
let checkpoint: string;

beforeAll(async () => {
  bench = await startBench({ fill: (place) => place("checkpoints", "demo.safetensors", demoCheckpoint) });
  await liveStack(bench, []);
  checkpoint = await idOf(bench, "checkpoint", "demo.safetensors");
});
afterAll(() => bench.close());

/** The output on what the live folder stands for right now. Asked again while files are being replaced under it. */
function liveOutput(): Promise<Buffer> {
  return until("an output of the live stack", () =>
    tryLiveOutput().catch((error: unknown) =>
      error instanceof Failure && error.code.startsWith("CATALOG_") ? null : Promise.reject(error as Error),
    ),
  );
}

async function tryLiveOutput(): Promise<Buffer> {
  const { live } = await statusOf(bench);
  return output(
    bench,
    checkpoint,
    live!.weights!.stack.map(({ sha256, strength }) => ({ adapter: sha256, strength })),
  );
}

describe("the live folder", () => {
  it("drives the engine by dropping, renaming, replacing and removing files, and comes back bit for bit", async () => {
    const before = await statusOf(bench);
    const none = await liveOutput();
    bench.place("live", "b-sevens@0.8.safetensors", demoLora("only-sevens"));
    await liveStack(bench, [0.8]);
    const sevens = await liveOutput();
    expect(sevens.equals(none)).toBe(false);

    bench.place("live", "a-thick.safetensors", demoLora("thick-strokes"));
    await liveStack(bench, [1, 0.8]);
    const both = await liveOutput();
    expect(both.equals(sevens)).toBe(false);

    renameSync(bench.path("live", "b-sevens@0.8.safetensors"), bench.path("live", "b-sevens@-0.3.safetensors"));
    await liveStack(bench, [1, -0.3]);
    expect((await liveOutput()).equals(both)).toBe(false);

    rmSync(bench.path("live", "a-thick.safetensors"));
    renameSync(bench.path("live", "b-sevens@-0.3.safetensors"), bench.path("live", "b-sevens@0.8.safetensors"));
    await liveStack(bench, [0.8]);
    expect((await liveOutput()).equals(sevens)).toBe(true);

    rmSync(bench.path("live", "b-sevens@0.8.safetensors"));
    const after = await liveStack(bench, []);
    expect((await liveOutput()).equals(none)).toBe(true);
    expect(after.totals.engineBuilds).toBe(before.totals.engineBuilds);
    expect(after.totals.sessionLoads).toBe(before.totals.sessionLoads);
    expect(after.hosts[0]!.pid).toBe(before.hosts[0]!.pid);
    expect(after.engines).toHaveLength(1);
    expect(after.engines[0]!.leases).toBe(1);
  });

  it("refits when a file of the stack is replaced under its name", async () => {
    bench.place("live", "one.safetensors", demoLora("only-sevens"));
    await liveStack(bench, [1]);
    const first = await liveOutput();
    bench.place("live", "one.safetensors", demoLora("thick-strokes"));
    const second = await until("another output", async () => {
      const now = await liveOutput();
      return now.equals(first) ? null : now;
    });
    bench.place("live", "one.safetensors", demoLora("only-sevens"));
    await until("the first output again", async () => (await liveOutput()).equals(first));
    expect(second.equals(first)).toBe(false);
    rmSync(bench.path("live", "one.safetensors"));
    await liveStack(bench, []);
  });

  const spoil = mkdtempSync(join(tmpdir(), "refit-spoil-"));
  const whole = readFileSync(demoLora("only-sevens"));
  const bad: readonly (readonly [name: string, make: (path: string) => void, code: RegExp])[] = [
    ["truncated", (path) => (copyFileSync(demoLora("only-sevens"), path), truncateSync(path, 400_000)), /./],
    ["renamed pickle", (path) => writeFileSync(path, Buffer.concat([Buffer.from("PK\u0003\u0004"), whole])), /./],
    [
      "huge header",
      (path) => writeFileSync(path, Buffer.concat([Buffer.from([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]), whole.subarray(8)])),
      /./,
    ],
    [
      "of another family",
      (path) => copyFileSync(goldenPath("wan/wan_diffusers_names_ignored.adapter.safetensors"), path),
      /DELTA_NO_WEIGHT_CHANGES|CATALOG_/,
    ],
    ["not finite", (path) => writeFileSync(path, withInfinity(whole)), /DELTA_NON_FINITE|HOST_NON_FINITE/],
  ];

  it.each(bad)("leaves out a file that is %s, says why, and keeps serving", async (name, make, code) => {
    const before = await liveOutput();
    make(join(spoil, "bad.safetensors"));
    bench.place("live", "bad.safetensors", join(spoil, "bad.safetensors"));
    await until(`a word about the file that is ${name}`, async () => {
      const { result } = await bench.client.call("catalog.list", { kind: "adapter" });
      const problem = result.entries.find((entry) => entry.name === "bad.safetensors")?.problem ?? (await statusOf(bench)).live?.problem;
      return problem && code.test(problem.code) ? problem : null;
    });
    expect((await statusOf(bench)).engines[0]!.state).toBe("LIVE");
    expect((await liveOutput()).equals(before)).toBe(true);
    rmSync(bench.path("live", "bad.safetensors"));
    await until("the bad file to leave", async () =>
      (await bench.client.call("catalog.list", { kind: "adapter" })).result.entries.every((entry) => entry.name !== "bad.safetensors"),
    );
  });

  it("keeps serving what it held when a file of a prepared stack is deleted, and reports it", async () => {
    bench.place("loras", "leaves.safetensors", demoLora("thick-strokes"));
    const adapter = await idOf(bench, "adapter", "leaves.safetensors");
    const { lease } = (
      await bench.client.call("engine.prepare", {
        checkpoint,
        stack: [{ adapter, strength: 1 }],
        precision: "auto",
        host: "auto",
        mode: "comfyui",
        residuals: false,
      })
    ).result;
    const held = await step(bench, lease);
    rmSync(bench.path("loras", "leaves.safetensors"));
    await until("the report", () => bench.heard.some(({ event }) => event.type === "live.deleted" && event.id === adapter));
    expect((await step(bench, lease)).equals(held)).toBe(true);
    await bench.client.call("engine.release", { lease });
  });
});

it("makes a delta again that was damaged on disk, and serves the same output", async () => {
  bench.place("loras", "damaged.safetensors", demoLora("thick-strokes"));
  const adapter = await idOf(bench, "adapter", "damaged.safetensors");
  const first = await output(bench, checkpoint, [{ adapter, strength: 0.7 }]);
  await output(bench, checkpoint, []);
  const deltas = join(bench.dataDir, "deltas");
  for (const name of readdirSync(deltas)) {
    const bytes = readFileSync(join(deltas, name));
    bytes[bytes.length - 5000]! ^= 0x55;
    writeFileSync(join(deltas, name), bytes);
  }
  expect((await output(bench, checkpoint, [{ adapter, strength: 0.7 }])).equals(first)).toBe(true);
});

/** The first half-float of the data becomes infinity. */
function withInfinity(file: Buffer): Buffer {
  const copy = Buffer.from(file);
  const header = JSON.parse(copy.subarray(8, 8 + Number(copy.readBigUInt64LE(0))).toString()) as Record<
    string,
    { dtype: string; data_offsets: [number, number] }
  >;
  const data = 8 + Number(copy.readBigUInt64LE(0));
  const [, tensor] = Object.entries(header).find(([name]) => name.endsWith("lora_up.weight"))!;
  copy.writeUInt16LE(0x7c00, data + tensor.data_offsets[0]);
  return copy;
}
