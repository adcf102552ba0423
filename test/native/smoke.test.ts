import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";

import { native, writeSafetensors } from "../../native/ts/index.ts";

let folder = "";
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "refit-native-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const floats = (...values: number[]): Uint8Array => new Uint8Array(Float32Array.from(values).buffer);

test("a written file is read back: entries, metadata, bytes", async () => {
  const path = join(folder, "a.safetensors");
  await writeSafetensors(path, [
    { name: "b", dtype: "F16", shape: [3], data: new Uint8Array([0, 0x3c, 0, 0x40, 0, 0x44]) },
    { name: "a", dtype: "F32", shape: [2, 2], data: async () => floats(1, 2, 3, 4) },
    { name: "empty", dtype: "F32", shape: [0, 5], data: new Uint8Array(0) },
    { name: "__proto__", dtype: "I64", shape: [], data: new Uint8Array(8) },
  ], { note: "hé", __proto__x: "y" });
  const file = await native.openTensorFile(path);
  expect([...file.header.entries.keys()].sort()).toEqual(["__proto__", "a", "b", "empty"]);
  expect({ ...file.header.metadata }).toEqual({ note: "hé", __proto__x: "y" });
  expect(await file.read("a")).toEqual(floats(1, 2, 3, 4));
  expect(file.header.dataOffset % 8).toBe(0);
  await file.checkUnchanged();
  await file.close();
  expect(await native.hashFile(path)).toMatch(/^[0-9a-f]{64}$/);
});

test("mergeLowRank adds scale * up * down to the base", async () => {
  const out = new Uint8Array(16);
  await native.mergeLowRank({ base: new Uint8Array([0, 0x3c, 0, 0x40, 0, 0x42, 0, 0x44]), baseDtype: "F16", out, outDtype: "F32", rows: 2, cols: 2, factors: [{ up: Float32Array.of(1, 2), down: Float32Array.of(10, 20), rank: 1, scale: 0.5 }] });
  expect([...new Float32Array(out.buffer)]).toEqual([6, 12, 13, 24]);
});
