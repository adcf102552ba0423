// A lease keeps its weights while files change under it (18); an adapter for the text encoder alone stops no stack (19).

import { copyFileSync, readFileSync, writeFileSync } from "node:fs";
import { writeSafetensors } from "@refit-sidecar/native";
import { afterAll, beforeAll, expect, it } from "vitest";
import { demoCheckpoint, demoLora, idOf, output, prepare, startBench, step, until } from "../sidecar/pipeline/harness.ts";
import type { Bench } from "../sidecar/pipeline/harness.ts";

let bench: Bench;
let checkpoint: string;

beforeAll(async () => {
  bench = await startBench({
    fill: (place) => (place("checkpoints", "m.safetensors", demoCheckpoint), place("loras", "x.safetensors", demoLora("small"))),
  });
  checkpoint = await idOf(bench, "checkpoint", "m.safetensors");
});
afterAll(() => bench.close());

const replaced = (id: string) =>
  until("the report of a replaced file", () => bench.heard.some(({ event }) => event.type === "live.replaced" && event.id === id));

it("an adapter for the text encoder alone is prepared, changes nothing, and its report says so", async () => {
  const key = (part: string) => `lora_te_text_model_encoder_layers_0_self_attn_q_proj.lora_${part}.weight`;
  const path = bench.path("loras", "te.safetensors");
  await writeSafetensors(path, [
    { name: key("down"), dtype: "F16", shape: [1, 768], data: new Uint8Array(1536) },
    { name: key("up"), dtype: "F16", shape: [768, 1], data: new Uint8Array(1536) },
  ]);
  const [x, te] = [await idOf(bench, "adapter", "x.safetensors"), await idOf(bench, "adapter", "te.safetensors")];
  const alone = await output(bench, checkpoint, [{ adapter: x, strength: 1 }]);
  const both = await prepare(bench, checkpoint, [
    { adapter: te, strength: 1 },
    { adapter: x, strength: 1 },
  ]);
  expect(both.adapters).toMatchObject([
    { adapter: te, used: 0, ignored: 2, failed: 0, ignoredKeys: [{ reason: "not for the engine: text encoder" }, {}] },
    { adapter: x, ignored: 0 },
  ]);
  expect((await step(bench, both.lease)).equals(alone)).toBe(true);
  await bench.client.call("engine.release", { lease: both.lease });
});

it("a lease keeps its weights when its files are replaced; the next run and a lease that follows take the new ones", async () => {
  const stack = [{ adapter: await idOf(bench, "adapter", "x.safetensors"), strength: 1 }];
  const keeps = await prepare(bench, checkpoint, stack);
  const first = await step(bench, keeps.lease);
  const follows = await prepare(bench, checkpoint, stack, { follow: true });
  copyFileSync(demoLora("thick-strokes"), bench.path("loras", "x.safetensors"));
  await replaced(stack[0]!.adapter);
  expect((await step(bench, keeps.lease)).equals(first)).toBe(true);
  const second = await until("the run that follows", async () => {
    const now = await step(bench, follows.lease);
    return now.equals(first) ? null : now;
  });
  expect((await output(bench, checkpoint, stack)).equals(second)).toBe(true);
  expect((await step(bench, keeps.lease)).equals(first)).toBe(true);
  await bench.client.call("engine.release", { lease: follows.lease });

  // The base is gone with its file: as long as the engine holds these weights the run goes on, and never with others.
  const bytes = Buffer.from(readFileSync(demoCheckpoint));
  for (let at = bytes.length - 1_000_000; at < bytes.length; at += 2) bytes[at]! ^= 3;
  writeFileSync(bench.path("checkpoints", "m.safetensors"), bytes);
  await replaced(checkpoint);
  expect((await step(bench, keeps.lease)).equals(first)).toBe(true);
  expect((await output(bench, checkpoint, stack)).equals(second)).toBe(false);
  const after = await step(bench, keeps.lease).catch((error: unknown) => error);
  expect(after).toMatchObject({ code: expect.stringMatching(/CATALOG_FAILED|REFIT_FAILED/) as string });
  await bench.client.call("engine.release", { lease: keeps.lease });
});

it("params that earlier clients send are taken off, others are refused", async () => {
  const old = { profile: "auto", priority: "user" } as object;
  const { lease } = await prepare(bench, checkpoint, [], old);
  await bench.client.call("engine.release", { lease });
  await expect(prepare(bench, checkpoint, [], { profil: "auto" } as object)).rejects.toMatchObject({ code: "WIRE_PARAMS_INVALID" });
});
