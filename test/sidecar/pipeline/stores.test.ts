import { mkdtemp, readdir, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeEach, describe, expect, it } from "vitest";
import { graphKey, openGraphs } from "../../../sidecar/src/pipeline/resolve/graphs.ts";
import { openStores } from "../../../sidecar/src/pipeline/stores.ts";
import { openStore } from "../../../sidecar/src/store/index.ts";
import type { Store } from "../../../sidecar/src/store/index.ts";
import { createLog } from "../../../sidecar/src/telemetry/index.ts";

const lines: string[] = [];
const log = createLog("debug", (line) => void lines.push(line));
const base = {
  "engine-store": null,
  "engine-store-size": 64,
  "engine-store-read": "on",
  "engine-store-write": "on",
  "shared-store": null,
} as const;
const finger = { libraryVersion: "1", driver: "", device: "" };
let data: string;

beforeEach(async () => {
  data = await mkdtemp(join(tmpdir(), "refit-stores-"));
  lines.length = 0;
});

/** A graph as small as can be, in a store. */
async function putGraph(store: Store, structure: string, mebibytes = 0): Promise<string> {
  const staging = await store.stage();
  const graph = { formatVersion: 1, name: structure, structure, inputs: [], outputs: [], variants: {}, refitMap: [] };
  await writeFile(join(staging.folder, "graph.json"), JSON.stringify(graph));
  await writeFile(join(staging.folder, "model.onnx"), Buffer.alloc(mebibytes * 2 ** 20));
  return (await staging.publish(graphKey(structure), finger)).entry;
}

describe("openStores", () => {
  it.each([
    [{}, ["--store", "ENGINES"]],
    [{ "engine-store-read": "off" }, ["--store", "ENGINES", "--store-unread"]],
    [{ "engine-store-write": "off" }, ["--read-store", "ENGINES"]],
    [{ "engine-store-read": "off", "engine-store-write": "off" }, []],
    [{ "shared-store": "/shared" }, ["--store", "ENGINES", "--read-store", "/shared"]],
  ] as const)("%o: hosts get %o", async (changed, flags) => {
    const stores = await openStores(() => ({ ...base, ...changed }), data, log);
    expect(stores.flags).toEqual(flags.map((flag) => (flag === "ENGINES" ? join(data, "engines") : flag)));
    await stores.close();
  });

  it("with writing off it leaves the store as it is, and what is made lives as long as the process", async () => {
    const folder = join(data, "engines");
    await putGraph(await openStore({ folder, writable: true, maxBytes: 1e9 }), "kept");
    const before = await readdir(folder);
    const stores = await openStores(() => ({ ...base, "engine-store-write": "off" as const, "engine-store-size": 0 }), data, log);
    const entry = await putGraph(stores.own, "made");
    expect(await readdir(folder)).toEqual(before);
    expect(await readdir(join(data, "engines-unkept"))).toEqual([entry]);
    expect(stores.readable).toHaveLength(1);
    await stores.close();
    expect(await readdir(data)).toEqual(["engines"]);
  });

  it("brings the store within its size at the start and on request, least recently used first, and says so", async () => {
    const folder = join(data, "engines");
    const filled = await openStore({ folder, writable: true, maxBytes: 1e9 });
    const entries = [];
    for (const [index, structure] of ["a", "b", "c"].entries()) {
      const entry = await putGraph(filled, structure, 30);
      const used = new Date(Date.now() - (10 - index) * 3600_000);
      await utimes(join(folder, entry, "manifest.json"), used, used);
      entries.push(entry);
    }
    let mebibytes = 64;
    const stores = await openStores(() => ({ ...base, "engine-store-size": mebibytes }), data, log);
    await expect.poll(() => readdir(folder)).toHaveLength(2);
    expect(await readdir(folder)).not.toContain(entries[0]);
    mebibytes = 32;
    stores.prune();
    await expect.poll(() => readdir(folder)).toEqual([entries[2]]);
    await stores.close();
    expect(lines.join("")).toContain("1 engines that were not used for longest left the store, 30 MiB");
  });
});

const noFailures = { known: () => null, note: () => undefined, idle: () => Promise.resolve() };

describe("openGraphs", () => {
  it("holds the graphs that it uses, and forgets one that another program has removed", async () => {
    const folder = join(data, "engines");
    const entry = await putGraph(await openStore({ folder, writable: true, maxBytes: 1e9 }), "mine");
    const stores = await openStores(() => base, data, log);
    const graphs = await openGraphs({ stores, python: () => null, failed: noFailures, onBadBundle: () => undefined });
    expect(graphs.find("mine")?.name).toBe("mine");
    await utimes(join(folder, entry, "manifest.json"), new Date(0), new Date(0));
    expect(await stores.own.prune(0)).toEqual([]);
    await (await openStore({ folder, writable: true, maxBytes: 0 })).remove(entry);
    expect(graphs.find("mine")).toBeNull();
    await stores.close();
  });

  it("a table without models serves a host that reads none, and gives way to a graph with models", async () => {
    const store = await openStore({ folder: join(data, "engines"), writable: true, maxBytes: 1e9 });
    const put = async (need: "table" | "models", models: readonly string[]) => {
      const staging = await store.stage();
      await writeFile(
        join(staging.folder, "graph.json"),
        JSON.stringify({
          formatVersion: 1,
          name: need,
          structure: "mine",
          inputs: [],
          outputs: [],
          variants: { fp32: "unet.onnx" },
          refitMap: [],
        }),
      );
      for (const model of models) await writeFile(join(staging.folder, model), "x");
      await staging.publish(graphKey("mine", need), finger);
    };
    const opened = async () => {
      const stores = await openStores(() => base, data, log);
      return { stores, graphs: await openGraphs({ stores, python: () => null, failed: noFailures, onBadBundle: () => undefined }) };
    };
    await put("table", []);
    const first = await opened();
    expect([first.graphs.find("mine", "table")?.name, first.graphs.find("mine", "models")]).toEqual(["table", null]);
    await expect(
      first.graphs.exportFor("mine", new Map(), () => undefined, new AbortController().signal, { need: "models" }),
    ).rejects.toMatchObject({ code: "ENGINE_GRAPH_MISSING" });
    await first.stores.close();
    await put("models", ["unet.onnx"]);
    const second = await opened();
    expect([second.graphs.find("mine", "table")?.name, second.graphs.find("mine")?.name]).toEqual(["models", "models"]);
    await second.stores.close();
  });
});
