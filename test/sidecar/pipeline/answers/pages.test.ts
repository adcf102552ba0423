// What pages ask, over the wire of a whole sidecar on the demo's model.

import { writeFileSync } from "node:fs";
import { PNG } from "pngjs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { demoCheckpoint, demoLora, startBench, until, type Bench } from "../harness.ts";

let bench: Bench;
let [adapter, checkpoint, engine] = ["", "", ""];

beforeAll(async () => {
  bench = await startBench({
    fill: (place) => {
      place("checkpoints", "demo.safetensors", demoCheckpoint);
      place("loras", "sevens.safetensors", demoLora("only-sevens"));
      place("live", "small.safetensors", demoLora("small"));
    },
  });
  writeFileSync(bench.path("loras", "sevens.preview.png"), PNG.sync.write(new PNG({ width: 4, height: 4 })));
  writeFileSync(
    bench.path("loras", "sevens.civitai.info"),
    JSON.stringify({ baseModel: "Demo", trainedWords: ["seven"], model: { name: "Sevens" } }),
  );
  engine = await until("a live engine", async () => {
    const found = (await bench.client.call("engine.list", {})).result.engines[0];
    return found?.state === "LIVE" ? found.id : null;
  });
  const entries = await until("both files", async () => {
    const found = (await bench.client.call("catalog.list", {})).result.entries;
    return found.length === 3 ? found : null;
  });
  adapter = entries.find(({ name }) => name === "sevens.safetensors")!.id;
  checkpoint = entries.find(({ kind }) => kind === "checkpoint")!.id;
});
afterAll(() => bench.close());

describe("the library", () => {
  it("lists entries by id, in name order, a page at a time, and leaves out ids that are none", async () => {
    const names = async (more: object) => {
      const { entries, next } = (await bench.client.call("catalog.list", { ids: [checkpoint, "nothing", adapter], ...more })).result;
      return [entries.map(({ name }) => name), next];
    };
    expect(await names({})).toEqual([["demo.safetensors", "sevens.safetensors"], null]);
    expect(await names({ kind: "adapter" })).toEqual([["sevens.safetensors"], null]);
    const [first, next] = await names({ limit: 1 });
    expect([first, await names({ after: next })]).toEqual([["demo.safetensors"], [["sevens.safetensors"], null]]);
  });

  it("tells what people wrote, and leaves out ids that are none of an adapter", async () => {
    const { notes } = (await bench.client.call("catalog.notes", { ids: [adapter, checkpoint, "adapter:nothing"] })).result;
    expect(notes).toMatchObject([{ id: adapter, title: "Sevens", base: "Demo", triggerWords: ["seven"], rank: 2, preview: true }]);
  });

  it("shows the picture beside a file, and none for a path instead of an id", async () => {
    const { picture } = (await bench.client.call("catalog.preview", { id: adapter })).result;
    expect(picture).toMatchObject({ type: "image/png", width: 4, height: 4 });
    expect(PNG.sync.read(Buffer.from(picture!.data, "base64")).width).toBe(4);
    for (const id of ["../../etc/passwd", checkpoint, "adapter:../sevens"])
      expect((await bench.client.call("catalog.preview", { id })).result).toEqual({ picture: null });
  });

  it("measures every layer of an adapter in the names of a checkpoint of its family", async () => {
    const { layers, checkpoint: named, failed } = (await bench.client.call("adapter.layers", { id: adapter })).result;
    expect([named, failed]).toEqual([checkpoint, 0]);
    expect(layers.length).toBeGreaterThan(100);
    expect(layers.every(({ norm }) => norm !== null)).toBe(true);
    expect(layers.find(({ parameter }) => parameter === "middle_block.1.proj_in.weight")).toMatchObject({ kinds: ["lowRank"], rank: 2 });
    await expect(bench.client.call("adapter.layers", { id: checkpoint })).rejects.toMatchObject({ code: "CATALOG_ENTRY_UNKNOWN" });
  });
});

describe("trying", () => {
  const stack = (strength: number) => [{ adapter, strength }];

  it("a slider's stack is on the engine at once", async () => {
    const { refit } = (await bench.client.call("engine.restack", { engine, stack: stack(0.5) })).result;
    expect(refit!.writes).toBeGreaterThan(100);
    const { engines } = (await bench.client.call("engine.list", {})).result;
    expect(engines.find(({ id }) => id === engine)!.weights!.stack).toMatchObject([{ strength: 0.5 }]);
    await expect(bench.client.call("engine.restack", { engine: "none", stack: [] })).rejects.toMatchObject({ code: "ENGINE_UNKNOWN" });
  });

  it("a picture is the same for one seed and stack, and another with a strength", async () => {
    const draw = async (strength: number) =>
      (await bench.client.call("engine.draw", { engine, stack: stack(strength), seed: 3, steps: 6 })).result;
    const [once, again, other] = [await draw(1), await draw(1), await draw(0)];
    expect(once).toMatchObject({ shows: "digits", png: again.png });
    expect(other.png).not.toBe(once.png);
    expect(PNG.sync.read(Buffer.from(once.png, "base64")).width).toBe(once.width);
    expect(other.ms.refit).toBeGreaterThan(0);
  });

  it("the history tells the phases, and the figures count what ran", async () => {
    const { records } = (await bench.client.call("engine.history", {})).result;
    expect(records.filter(({ kind }) => kind === "refit").every(({ prepareMs, commitMs }) => prepareMs > 0 && commitMs > 0)).toBe(true);
    const { figures } = (await bench.client.call("telemetry.figures", {})).result;
    const step = figures.find(({ name }) => name === "step")!;
    // The demo's sampler takes sixteen steps a picture.
    expect(step.count).toBe(3 * 16);
    expect(step.buckets.reduce((sum, { count }) => sum + count, 0)).toBe(step.count);
    expect(step.p50Ms! <= step.p95Ms! && step.p95Ms! <= step.p99Ms!).toBe(true);
    expect(figures.find(({ name }) => name === "swap")!.count).toBe(records.filter(({ kind }) => kind === "refit").length);
  });
});

describe("the sidecar itself", () => {
  it("shows settings and log without a path", async () => {
    const { settings } = (await bench.client.call("settings.list", {})).result;
    expect(settings.find(({ name }) => name === "loras")).toMatchObject({ value: "1 folder", changed: true, reload: true });
    expect(settings.find(({ name }) => name === "data-dir")).toMatchObject({ value: "set", changed: true });
    expect(settings.find(({ name }) => name === "turn")!.changed).toBe(false);
    const { lines } = (await bench.client.call("telemetry.log", {})).result;
    expect(lines.some(({ text }) => text.startsWith("listening on"))).toBe(true);
    expect(JSON.stringify([settings, lines])).not.toContain(bench.folder);
  });

  it("says what the caches hold", async () => {
    const { parts } = (await bench.client.call("cache.list", {})).result;
    expect(parts.find(({ name }) => name === "deltas")).toMatchObject({ entries: 2 });
    expect(parts.every(({ bytes, limitBytes }) => bytes <= limitBytes)).toBe(true);
  });
});
