// An adapter is read when a run names it, and a client's own reading of it is compared with ours before an engine serves.

import { readdirSync } from "node:fs";
import { join } from "node:path";
import { native } from "@refit-sidecar/native";
import { afterAll, beforeAll, expect, it } from "vitest";
import { demoCheckpoint, demoLora, idOf, prepare, startBench, until } from "../sidecar/pipeline/harness.ts";
import type { Bench } from "../sidecar/pipeline/harness.ts";
import { hashOf, write } from "./support.ts";

let bench: Bench;
let checkpoint: string;

beforeAll(async () => {
  bench = await startBench({
    fill: (place) => (place("checkpoints", "m.safetensors", demoCheckpoint), place("loras", "x.safetensors", demoLora("small"))),
  });
  checkpoint = await idOf(bench, "checkpoint", "m.safetensors");
});
afterAll(() => bench.close());

const listed = async (name: string) => {
  const { entries } = (await bench.client.call("catalog.list", { kind: "adapter" })).result;
  return entries.find((entry) => entry.name === name);
};

it("a file of a family that no checkpoint here has is hashed when somebody asks for it, at once and not before", async () => {
  const rank = 4;
  const path = await write(join(bench.folder, "loras", "of-flux2.safetensors"), {
    "transformer.single_transformer_blocks.0.attn.to_qkv_mlp_proj.lora_A.weight": { shape: [rank, 3072] },
    "transformer.single_transformer_blocks.0.attn.to_qkv_mlp_proj.lora_B.weight": { shape: [27648, rank] },
  });
  const entry = await until("the file in the catalog", () => listed("of-flux2.safetensors"));
  expect(entry).toMatchObject({ family: "flux2", sha256: null, delta: "none" });
  const { entry: hashed } = (await bench.client.call("catalog.get", { id: entry.id, hash: true })).result;
  expect(hashed).toMatchObject({ sha256: hashOf(path), proof: "full" });
  // The next call may name it by its content.
  await expect(prepare(bench, checkpoint, [{ adapter: hashOf(path), strength: 1 }])).rejects.toMatchObject({
    code: "DELTA_FAILED",
    message: expect.stringContaining("of-flux2.safetensors") as string,
  });
});

it("a client whose loader changes other layers is refused, and one whose loader changes the same is served", async () => {
  const adapter = await idOf(bench, "adapter", "x.safetensors");
  const { lease, adapters } = await prepare(bench, checkpoint, [{ adapter, strength: 1 }]);
  await bench.client.call("engine.release", { lease });
  const [delta] = readdirSync(join(bench.dataDir, "deltas")).filter((name) => name.startsWith(hashOf(demoLora("small"))));
  const file = await native.openTensorFile(join(bench.dataDir, "deltas", delta ?? ""));
  const { targets } = JSON.parse(file.header.metadata["refit_delta"] ?? "{}") as { targets: string };
  await file.close();
  const same = await prepare(bench, checkpoint, [{ adapter, strength: 1, targets }]);
  await bench.client.call("engine.release", { lease: same.lease });
  expect(adapters).toMatchObject([{ failed: 0, ignored: 0 }]);
  await expect(prepare(bench, checkpoint, [{ adapter, strength: 1, targets: "a".repeat(64) }])).rejects.toMatchObject({
    code: "DELTA_FAILED",
    message: expect.stringMatching(/x\.safetensors changes other layers in this UI/) as string,
  });
});
