// Arrivals and catalog together on a real disk, with the troubles of one: floods, slow and huge files, folders that go away, kills while saving.

import { spawn } from "node:child_process";
import {
  closeSync,
  ftruncateSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  renameSync,
  rmSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { once } from "node:events";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { createArrivals } from "../../../sidecar/src/arrivals/index.ts";
import type { Arrivals } from "../../../sidecar/src/arrivals/index.ts";
import { createCatalog } from "../../../sidecar/src/catalog/index.ts";
import type { Catalog } from "../../../sidecar/src/catalog/index.ts";
import { createReader } from "../../../sidecar/src/catalog/read/index.ts";
import { loadText } from "../../../sidecar/src/catalog/read/store.ts";
import { record } from "../../record.ts";
import { lora } from "./world.ts";

let root = "";
let running: { arrivals: Arrivals; catalog: Catalog }[] = [];

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "refit-faults-"));
  mkdirSync(join(root, "loras"));
});
afterEach(async () => {
  for (const { arrivals, catalog } of running.splice(0)) {
    await arrivals.close();
    await catalog.close();
  }
  rmSync(root, { recursive: true, force: true });
});

async function start(options: { pollMs?: number } = {}) {
  let headers = 0;
  const reader = createReader(join(root, "data", "catalog.json"));
  const catalog = createCatalog({
    storePath: null,
    reader: { ...reader, content: (files, placed, table) => ((headers += files.length), reader.content(files, placed, table)) },
  });
  await catalog.open();
  const arrivals = createArrivals({ folders: [{ path: join(root, "loras"), kind: "adapter" }], ...options });
  let scans = 0;
  arrivals.subscribe((batch) => {
    scans += batch.filter((event) => event.type === "scanned").length;
    catalog.accept(batch);
  });
  await arrivals.start();
  await catalog.idle();
  const one = { arrivals, catalog };
  running.push(one);
  const until = async (holds: () => boolean) => {
    while (!holds()) await pause(20);
  };
  return {
    ...one,
    headers: () => headers,
    until,
    watching: () => until(() => scans >= 2),
    entries: () => [...catalog.snapshot().entries.values()],
    stop: async () => {
      running = running.filter((each) => each !== one);
      await arrivals.close();
      await catalog.close();
    },
  };
}

/** A sparse file with a real header; only its last bytes are written. */
function sparseLora(path: string, payloadBytes: number): number {
  const floats = Math.floor(payloadBytes / 4);
  const text = Buffer.from(
    JSON.stringify({
      "lora_unet_x.lora_down.weight": { dtype: "F32", shape: [floats / 2], data_offsets: [0, floats * 2] },
      "lora_unet_x.lora_up.weight": { dtype: "F32", shape: [floats / 2], data_offsets: [floats * 2, floats * 4] },
    }),
  );
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  const file = openSync(path, "w");
  writeSync(file, Buffer.concat([length, text]));
  closeSync(file);
  return 8 + text.length + floats * 4;
}

const test = "test/sidecar/catalog/faults.e2e.test.ts";

describe("10,000 files at once", () => {
  it("are all catalogued, none twice, and a restart reads none of them again", { timeout: 300_000 }, async () => {
    const first = await start();
    await first.watching();
    const began = performance.now();
    const script = `const fs=require("fs"),path=require("path");const bytes=Buffer.from(process.argv[2],"base64");for(let i=0;i<10000;i++){const d=path.join(process.argv[1],"s"+i%7);fs.mkdirSync(d,{recursive:true});fs.writeFileSync(path.join(d,"f"+i+".safetensors"),bytes);}`;
    const child = spawn(process.execPath, ["-e", script, join(root, "loras"), lora().toString("base64")], { stdio: "inherit" });
    await once(child, "exit");
    await first.until(() => first.entries().length === 10_000 && first.entries().every((entry) => entry.problem === null));
    expect(new Set(first.entries().map((entry) => entry.id)).size).toBe(10_000);
    const tookMs = performance.now() - began;
    await first.catalog.idle();
    await first.stop();
    const second = await start();
    await second.until(() => second.entries().length === 10_000);
    expect(second.headers()).toBe(0);
    record("files-10000", {
      promise: "10,000 files that arrive at once are all catalogued, none twice",
      figure: `written and catalogued in ${(tookMs / 1000).toFixed(1)} s; a restart reads 0 of them again`,
      test,
    });
  });
});

describe("multi-gigabyte files", () => {
  it("a slow copy settles when it has its length, and its pieces never show as an adapter", { timeout: 60_000 }, async () => {
    const one = await start();
    await one.watching();
    const path = join(root, "loras", "huge.safetensors");
    const size = sparseLora(path, 6e9);
    const file = openSync(path, "r+");
    for (let step = 1; step < 10; step += 1) {
      ftruncateSync(file, Math.floor((size * step) / 10));
      await pause(150);
      expect(one.entries().filter((entry) => entry.problem === null)).toEqual([]);
    }
    writeSync(file, Buffer.from([1, 2, 3, 4]), 0, 4, size - 4);
    closeSync(file);
    await one.until(() => one.entries().some((entry) => entry.problem === null && entry.sizeBytes === size));
    record("slow-copy", {
      promise: "A slow copy of a multi-gigabyte file is never taken before it is whole",
      figure: `${(size / 1e9).toFixed(1)} GB in 10 pieces: shown as an adapter 0 times before its end, then settled`,
      test,
    });
  });

  it("one that is renamed in is there at once", { timeout: 60_000 }, async () => {
    const one = await start();
    await one.watching();
    const outside = join(root, "huge.safetensors");
    const size = sparseLora(outside, 6e9);
    const file = openSync(outside, "r+");
    writeSync(file, Buffer.from([1, 2, 3, 4]), 0, 4, size - 4);
    closeSync(file);
    const began = performance.now();
    renameSync(outside, join(root, "loras", "huge.safetensors"));
    await one.until(() => one.entries().some((entry) => entry.problem === null && entry.sizeBytes === size));
    record("rename-in", {
      promise: "A multi-gigabyte file that is renamed in is there at once",
      figure: `${(size / 1e9).toFixed(1)} GB: in the catalog after ${Math.round(performance.now() - began)} ms`,
      test,
    });
  });
});

describe("a folder that goes away", () => {
  it("keeps its entries with a problem and takes them up again, unread, when it is back", { timeout: 60_000 }, async () => {
    for (const name of ["a", "b", "c"]) {
      writeFileSync(join(root, "loras", `${name}.safetensors`), lora());
      utimesSync(join(root, "loras", `${name}.safetensors`), new Date(1e12), new Date(1e12));
    }
    const one = await start({ pollMs: 100 });
    await one.watching();
    const headers = one.headers();
    renameSync(join(root, "loras"), join(root, "away"));
    await one.until(() => one.entries().length === 3 && one.entries().every((entry) => entry.problem?.code === "CATALOG_FOLDER_LOST"));
    renameSync(join(root, "away"), join(root, "loras"));
    await one.until(() => one.entries().length === 3 && one.entries().every((entry) => entry.problem === null));
    expect(one.headers()).toBe(headers);
    writeFileSync(join(root, "loras", "d.safetensors"), lora());
    await one.until(() => one.entries().length === 4);
  });
});

describe("kill -9 while the catalog is saved", () => {
  it("leaves the old text or the new one, never a damaged one", { timeout: 120_000 }, async () => {
    const store = join(root, "data", "catalog.json");
    const module = fileURLToPath(new URL("../../../sidecar/dist/src/catalog/read/store.js", import.meta.url));
    const script = `import(process.argv[1]).then(async ({saveText})=>{process.stdout.write("up");for(let i=0;;i++)await saveText(process.argv[2],JSON.stringify({i,fill:"x".repeat(500000)}));});`;
    let last = -1;
    for (let round = 0; round < 20; round += 1) {
      const child = spawn(process.execPath, ["-e", script, module, store], { stdio: ["ignore", "pipe", "inherit"] });
      await once(child.stdout, "data");
      await pause(10 + Math.random() * 60);
      const ended = once(child, "exit");
      child.kill("SIGKILL");
      await ended;
      const { text, reason } = await loadText(store);
      expect(reason).toBeNull();
      if (text !== null) {
        const { i, fill } = JSON.parse(text) as { i: number; fill: string };
        expect(fill).toHaveLength(500_000);
        last = i;
      }
    }
    expect(last).toBeGreaterThanOrEqual(0);
    record("catalog-killed", {
      promise: "kill -9 while the catalog is saved leaves the old text or the new one",
      figure: "20 kills at random points: 0 damaged files",
      test,
    });
  });
});
