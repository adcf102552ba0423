import { spawnSync } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";

import { SafetensorsError, native, writeSafetensors } from "../../native/ts/index.ts";
import { hostileFiles, legalOddities } from "../hostile/corpus.ts";
import { bytesOf, implementations } from "./both.ts";
import { specs, valueOf } from "./spec.ts";

const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const python = process.env["REFIT_TEST_PYTHON"];
const noPython = "REFIT_TEST_PYTHON is not set: the reference package cannot be asked (npm test sets it)";

let folder = "";
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "refit-differential-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

function askPython(script: string, input: Uint8Array): Buffer {
  const result = spawnSync(python ?? "python3", [script], { input, maxBuffer: 1 << 28 });
  if (result.status !== 0) throw new Error(result.stderr.toString());
  return result.stdout;
}

test("the reference Python package accepts and refuses the same files, save where we are stricter on purpose", ({ skip }) => {
  if (python === undefined) skip(noPython);
  const files = [...hostileFiles(), ...legalOddities()];
  const input = files.flatMap(({ bytes }) => {
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(bytes.byteLength));
    return [length, bytes];
  });
  const verdicts = askPython(join(root, "native/fuzz/reference.py"), Buffer.concat(input)).toString().trim().split("\n");
  expect(verdicts).toHaveLength(files.length);
  const wrong = files.filter((file, index) => {
    const accepts = !("python" in file) || file.python !== "rejects";
    return (verdicts[index] === "1") !== accepts;
  });
  expect(wrong.map((file) => file.name)).toEqual([]);
});

test("short fuzz run: C++, TypeScript and the reference agree on mutated headers", ({ skip }) => {
  if (native.kind !== "native") skip("REFIT_NATIVE=off: there is no addon to compare with");
  const result = spawnSync(process.execPath, ["native/fuzz/differential.mjs", "4", "20261122"], { cwd: root, encoding: "utf8" });
  expect(result.stdout, result.stderr).toContain('"disagreements":[]');
  expect((JSON.parse(result.stdout) as { cases: number }).cases).toBeGreaterThan(1000);
});

test("npm's safetensors reads the same tensors from a valid file", async () => {
  const path = join(folder, "valid.safetensors");
  const values = Float32Array.from({ length: 24 }, (_, index) => index / 7);
  await writeSafetensors(path, [
    { name: "w", dtype: "F32", shape: [4, 6], data: bytesOf(values) },
    { name: "i", dtype: "I32", shape: [3], data: bytesOf(Int32Array.of(-1, 0, 7)) },
  ]);
  // Tiny and unmaintained, with no checks of its own and no types: an oracle on valid files only.
  const oracle = createRequire(import.meta.url)("safetensors") as {
    SafeTensor: new (bytes: Uint8Array) => {
      getTensor(name: string): Uint8Array;
      metadata: Map<string, { dtype: string; shape: number[] }>;
    };
  };
  const theirs = new oracle.SafeTensor(new Uint8Array(await readFile(path)));
  for (const [, implementation] of implementations) {
    const ours = await implementation.openTensorFile(path);
    expect([...theirs.metadata.keys()].sort()).toEqual([...ours.header.entries.keys()].sort());
    for (const name of ["w", "i"]) {
      expect(await ours.read(name)).toEqual(theirs.getTensor(name));
      expect(ours.header.entries.get(name)).toMatchObject({
        dtype: theirs.metadata.get(name)?.dtype,
        shape: theirs.metadata.get(name)?.shape,
      });
    }
    await ours.close();
  }
});

test("torch rounds f32 to f16 and bf16 as we do, and reads every fp8 code as we do", async ({ skip }) => {
  if (python === undefined) skip(noPython);
  const bits = Uint32Array.from({ length: 1 << 18 }, (_, index) => (Math.imul(index, 2654435761) ^ (index << 7)) >>> 0);
  const answer = askPython(join(root, "test/python/native/rounding.py"), bytesOf(bits));
  const count = bits.length;
  const expected = { F16: answer.subarray(0, 2 * count), BF16: answer.subarray(2 * count, 4 * count) };
  const fp8 = new Float32Array(answer.buffer.slice(answer.byteOffset + 4 * count, answer.byteOffset + 4 * count + 2048));
  for (const [, kernels] of implementations) {
    for (const dtype of ["F16", "BF16"] as const) {
      const out = new Uint8Array(2 * count);
      await kernels.convert(bytesOf(bits), "F32", out, dtype, count);
      const [ours, theirs] = [
        new Uint16Array(out.buffer),
        new Uint16Array(expected[dtype].buffer.slice(expected[dtype].byteOffset, expected[dtype].byteOffset + 2 * count)),
      ];
      for (const [index, code] of ours.entries()) {
        const bothNan = Number.isNaN(valueOf(code, specs[dtype])) && Number.isNaN(valueOf(theirs[index]!, specs[dtype]));
        if (!bothNan && code !== theirs[index]) expect.fail(`${dtype} of bits ${bits[index]}: ${code}, torch ${theirs[index]}`);
      }
    }
    for (const [at, dtype] of (["F8_E4M3", "F8_E5M2"] as const).entries()) {
      const out = new Float32Array(256);
      await kernels.convert(
        Uint8Array.from({ length: 256 }, (_, code) => code),
        dtype,
        bytesOf(out),
        "F32",
        256,
      );
      expect([...out]).toEqual([...fp8.subarray(at * 256, (at + 1) * 256)]);
    }
  }
});

test("a file written by the reference is read, and the reference reads ours", async ({ skip }) => {
  if (python === undefined) skip(noPython);
  const [theirs, ours] = [join(folder, "theirs.safetensors"), join(folder, "ours.safetensors")];
  await writeSafetensors(
    ours,
    [
      { name: "é", dtype: "F32", shape: [2, 2], data: bytesOf(Float32Array.of(1, 2, 3, 4)) },
      { name: "h", dtype: "BF16", shape: [1], data: Uint8Array.of(0x80, 0x3f) },
    ],
    { note: "ü" },
  );
  const said: unknown = JSON.parse(
    askPython(join(root, "test/python/native/exchange.py"), Buffer.from(JSON.stringify([ours, theirs]))).toString(),
  );
  expect(said).toEqual({
    metadata: { note: "ü" },
    tensors: {
      é: [
        [1, 2],
        [3, 4],
      ],
      h: [1],
    },
  });
  for (const [, implementation] of implementations) {
    const file = await implementation.openTensorFile(theirs);
    expect(await file.read("a")).toEqual(bytesOf(Float32Array.of(1.5, -2)));
    expect({ ...file.header.metadata }).toEqual({ format: "pt" });
    expect(file.header.entries.get("b")).toMatchObject({ dtype: "F8_E4M3", shape: [2, 1] });
    await file.close();
  }
});

test("every fault has the same code and tensor from C++ and from TypeScript", async ({ skip }) => {
  if (native.kind !== "native") skip("REFIT_NATIVE=off: there is no addon to compare with");
  const path = join(folder, "fault.safetensors");
  for (const { name, bytes } of hostileFiles()) {
    await writeFile(path, bytes);
    const faults = await Promise.all(
      implementations.map(([, each]) =>
        each.readHeader(path).then(
          () => null,
          (error: unknown) => (error instanceof SafetensorsError ? [error.code, error.tensor] : error),
        ),
      ),
    );
    expect(faults[1], name).toEqual(faults[0]);
  }
});
