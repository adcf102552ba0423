// The compiled worker is used (npm test builds first), because a thread cannot run TypeScript sources.

import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { native } from "@refit-sidecar/native";
import { readContent } from "../../../sidecar/src/catalog/read/content.ts";
import { createHeaderService } from "../../../sidecar/src/catalog/read/header-service.ts";
import type { HeaderService } from "../../../sidecar/src/catalog/read/header-service.ts";
import { readStamp } from "../../../sidecar/src/files/index.ts";
import type { ContentFile } from "../../../sidecar/src/catalog/reader.ts";
import { lora } from "./world.ts";

const entry = new URL("../../../sidecar/dist/src/catalog/read/header-worker.js", import.meta.url);
let root = "";
let service: HeaderService | null = null;
let here = 0;

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "refit-headers-"));
  here = 0;
});
afterEach(async () => {
  await service?.close();
  rmSync(root, { recursive: true, force: true });
});

function start(worker: URL | null): HeaderService {
  service = createHeaderService({
    entry: worker,
    threads: 2,
    readHere: (files, placed, table) => {
      here += 1;
      return readContent(files, placed, table, native.readHeader);
    },
  });
  return service;
}

async function files(count: number): Promise<ContentFile[]> {
  return Promise.all(
    Array.from({ length: count }, async (_, index) => {
      const path = join(root, `f${index}.safetensors`);
      writeFileSync(path, index % 10 === 9 ? "no header" : lora(1, 1 + (index % 4)));
      const stamp = await readStamp(path);
      if (stamp === null) throw new Error("not written");
      return { path, stamp };
    }),
  );
}

describe("header service", () => {
  it("reads a few here and many in threads, with the same answers", async () => {
    expect(existsSync(entry), "run `npm run build` first").toBe(true);
    const { read } = start(entry);
    const list = await files(60);
    const many = await Promise.all(list.map((file) => read([file], "adapter", null)));
    expect(here).toBeGreaterThan(0);
    expect(here).toBeLessThan(20);
    for (const [index, file] of list.entries()) expect(many[index]).toEqual(await readContent([file], "adapter", null, native.readHeader));
    expect(many[9]).toMatchObject({ problem: { code: "CATALOG_NOT_SAFETENSORS" }, lasting: true });
  });

  it("reads everything here without a worker", async () => {
    const { read } = start(null);
    const list = await files(20);
    await Promise.all(list.map((file) => read([file], "adapter", null)));
    expect(here).toBe(20);
  });

  it("answers CATALOG_READER_DIED for what a dead thread held", async () => {
    const path = join(root, "dies.mjs");
    writeFileSync(path, "process.exit(3);\n");
    const { read } = start(pathToFileURL(path));
    const list = await files(30);
    const readings = await Promise.all(list.map((file) => read([file], "adapter", null)));
    const lost = readings.filter((reading) => "problem" in reading && reading.problem.code === "CATALOG_READER_DIED");
    expect(lost.length).toBeGreaterThan(0);
    expect(lost.every((reading) => "lasting" in reading && !reading.lasting)).toBe(true);
  });
});
