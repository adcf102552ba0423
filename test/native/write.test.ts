import fc from "fast-check";
import { mkdir, mkdtemp, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";

import { dtypeBytes, isDtype, isFloatDtype, writeSafetensors, type Dtype, type TensorSource } from "../../native/ts/index.ts";
import { implementations } from "./both.ts";

let folder = "";
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "refit-write-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const byte = (name: string, value: number): TensorSource => ({ name, dtype: "U8", shape: [1], data: Uint8Array.of(value) });

test("what is written is read back by every implementation, whatever the names, dtypes and shapes", async () => {
  const dtypes = Object.keys(dtypeBytes).filter(isDtype);
  const tensor = fc
    .record({
      name: fc.string({ unit: "binary", maxLength: 12 }),
      dtype: fc.constantFrom<Dtype>(...dtypes),
      shape: fc.array(fc.nat(4), { maxLength: 4 }),
      seed: fc.nat(255),
    })
    .map((one) => (dtypeBytes[one.dtype] < 1 ? { ...one, shape: [...one.shape, 8] } : one));
  const metadata = fc.dictionary(fc.string({ unit: "binary", maxLength: 8 }), fc.string({ unit: "binary", maxLength: 8 }), { maxKeys: 4 });
  await fc.assert(
    fc.asyncProperty(fc.uniqueArray(tensor, { selector: (each) => each.name, maxLength: 8 }), metadata, async (wanted, notes) => {
      const path = join(folder, "property.safetensors");
      const sources = wanted
        .filter(({ name }) => name !== "__metadata__")
        .map(({ name, dtype, shape, seed }): TensorSource => ({
          name,
          dtype,
          shape,
          data: new Uint8Array(shape.reduce((a, b) => a * b, dtypeBytes[dtype])).fill(seed),
        }));
      const { sizeBytes } = await writeSafetensors(path, sources, notes);
      expect((await readFile(path)).byteLength).toBe(sizeBytes);
      for (const [, native] of implementations) {
        const file = await native.openTensorFile(path);
        expect(file.header.dataOffset % 8).toBe(0);
        expect(Object.entries(file.header.metadata).sort()).toEqual(Object.entries(notes).sort());
        expect(file.header.entries.size).toBe(sources.length);
        for (const { name, dtype, shape, data } of sources) {
          const entry = file.header.entries.get(name);
          expect([entry?.dtype, entry?.shape]).toEqual([dtype, shape]);
          expect((file.header.dataOffset + (entry?.begin ?? 0)) % Math.max(1, dtypeBytes[dtype])).toBe(0);
          expect(await file.read(name)).toEqual(data);
        }
        await file.close();
      }
    }),
    { numRuns: 60 },
  );
});

test("data may come late, in pieces, one tensor at a time", async () => {
  const path = join(folder, "pieces.safetensors");
  const asked: string[] = [];
  const late = (name: string): TensorSource => ({
    name,
    dtype: "U8",
    shape: [6],
    data: async function* () {
      asked.push(name);
      yield Uint8Array.of(1, 2);
      yield new Uint8Array(0);
      yield Uint8Array.of(3, 4, 5, 6);
    },
  });
  const progress: number[] = [];
  await writeSafetensors(
    path,
    [late("b"), { name: "a", dtype: "U8", shape: [1], data: async () => Uint8Array.of(9) }, late("c")],
    {},
    { onProgress: (done, total) => progress.push(done / total) },
  );
  expect(asked).toEqual(["b", "c"]);
  expect(progress.at(-1)).toBe(1);
  const bytes = await readFile(path);
  expect([...bytes.subarray(-13)]).toEqual([9, 1, 2, 3, 4, 5, 6, 1, 2, 3, 4, 5, 6]);
});

test("a failure leaves the old file and no temp file", async () => {
  const nested = join(folder, "failing");
  await mkdir(nested);
  const path = join(nested, "kept.safetensors");
  await writeFile(path, "old");
  const failing: [string, TensorSource[], Record<string, unknown>][] = [
    [
      "its data throws",
      [byte("a", 1), { name: "b", dtype: "U8", shape: [1], data: () => Promise.reject(new Error("no disk")) }],
      { message: "no disk" },
    ],
    ["too little data", [{ name: "a", dtype: "F32", shape: [2], data: new Uint8Array(7) }], { code: "TENSOR_INVALID_INFO", tensor: "a" }],
    ["too much data", [{ name: "a", dtype: "F32", shape: [2], data: new Uint8Array(9) }], { code: "TENSOR_INVALID_INFO", tensor: "a" }],
    [
      "a piece too many",
      [
        {
          name: "a",
          dtype: "U8",
          shape: [1],
          data: async function* () {
            yield Uint8Array.of(1);
            yield Uint8Array.of(2);
          },
        },
      ],
      { code: "TENSOR_INVALID_INFO" },
    ],
    ["a name twice", [byte("a", 1), byte("a", 2)], { code: "DUPLICATE_KEY" }],
    ["the reserved name", [byte("__metadata__", 1)], { code: "DUPLICATE_KEY" }],
    ["a shape that is none", [{ name: "a", dtype: "U8", shape: [-1], data: new Uint8Array(0) }], { code: "TENSOR_INVALID_INFO" }],
    ["a header above the cap", [byte("x".repeat(100_000_001), 1)], { code: "HEADER_TOO_LARGE" }],
  ];
  for (const [label, tensors, expected] of failing) {
    await expect(writeSafetensors(path, tensors), label).rejects.toMatchObject(expected);
    expect(await readFile(path, "utf8")).toBe("old");
    expect(await readdir(nested)).toEqual(["kept.safetensors"]);
  }
  await expect(writeSafetensors(path, [byte("a", 1)], {}, { signal: AbortSignal.abort(new Error("stop")) })).rejects.toThrow("stop");
  expect(await readdir(nested)).toEqual(["kept.safetensors"]);
});

test("dtype guards know the container's dtypes and no inherited names", () => {
  expect([isDtype("F32"), isDtype("toString"), isDtype("f32")]).toEqual([true, false, false]);
  expect([isFloatDtype("BF16"), isFloatDtype("I64")]).toEqual([true, false]);
});
