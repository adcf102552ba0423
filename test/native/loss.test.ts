import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { dtypeBytes, native, writeSafetensors, type FloatDtype } from "../../native/ts/index.ts";
import { bytesOf, implementations, randomFrom } from "./both.ts";

function floats(seed: number, count: number, size: number): Float32Array {
  const random = randomFrom(seed);
  return Float32Array.from({ length: count }, () => (random() * 2 - 1) * size);
}

describe.each(implementations)("loss (%s)", (_name, kernels) => {
  const asF32 = async (bytes: Uint8Array, dtype: FloatDtype, count: number): Promise<Float32Array> => {
    const out = new Float32Array(count);
    await kernels.convert(bytes, dtype, bytesOf(out), "F32", count);
    return out;
  };

  test.each([
    ["BF16", "BF16"],
    ["F16", "BF16"],
    ["F32", "F32"],
    ["F8_E4M3", "F16"],
  ] as const)("mergeLowRank sums up what storing %s as %s keeps", async (baseDtype, outDtype) => {
    const [rows, cols, rank] = [37, 301, 5];
    const count = rows * cols;
    const base = new Uint8Array(count * dtypeBytes[baseDtype]);
    await kernels.convert(bytesOf(floats(1, count, 1)), "F32", base, baseDtype, count);
    const [up, down] = [floats(2, rows * rank, 0.02), floats(3, rank * cols, 0.02)];
    const out = new Uint8Array(count * dtypeBytes[outDtype]);
    const loss = Float64Array.of(1, 2, 3);
    await kernels.mergeLowRank({ base, baseDtype, out, outDtype, rows, cols, factors: [{ up, down, rank, scale: 0.7 }], loss });
    const rounded = new Uint8Array(out.byteLength);
    await kernels.convert(base, baseDtype, rounded, outDtype, count);
    const [before, after] = [await asF32(rounded, outDtype, count), await asF32(out, outDtype, count)];
    const want = [0, 0, 0];
    for (let i = 0; i < count; i += 1) {
      let d = 0;
      for (let r = 0; r < rank; r += 1) d += 0.7 * up[Math.floor(i / cols) * rank + r]! * down[r * cols + (i % cols)]!;
      const e = after[i]! - before[i]! - d;
      want[0]! += d * d;
      want[1]! += d * e;
      want[2]! += e * e;
    }
    // Added to what was there; f32 sums of the change differ from f64 ones by 1e-7 of it.
    want.forEach((value, i) => expect(Math.abs(loss[i]! - (i + 1) - value)).toBeLessThanOrEqual(1e-5 * want[0]!));
  });

  test("lossOf gives the error, and takes it back", async () => {
    const count = 100_003;
    const [before, change, after] = [floats(4, count, 1), floats(5, count, 0.01), floats(6, count, 1)];
    const error = new Float32Array(count);
    const sums = new Float64Array(3);
    await kernels.lossOf({ before, change, after, error, sums });
    expect(error[17]).toBe(Math.fround(after[17]! - before[17]! - change[17]!));
    const again = new Float64Array(3);
    await kernels.lossOf({ before: null, change, after: error, sums: again });
    sums.forEach((value, i) => expect(again[i]).toBeCloseTo(value, 4));
    expect(sums[0]).toBeCloseTo(
      change.reduce((sum, value) => sum + value * value, 0),
      8,
    );
  });

  test("arrays of other lengths are refused", async () => {
    await expect(
      kernels.lossOf({ before: new Float32Array(2), change: new Float32Array(3), after: new Float32Array(3), sums: new Float64Array(3) }),
    ).rejects.toThrow(RangeError);
    await expect(
      kernels.lossOf({ before: null, change: new Float32Array(3), after: new Float32Array(3), sums: new Float64Array(2) }),
    ).rejects.toThrow(RangeError);
  });
});

test("a late tensor is written into its place after all others", async () => {
  const folder = mkdtempSync(join(tmpdir(), "refit-late-"));
  const path = join(folder, "x.safetensors");
  let scale = 0;
  await writeSafetensors(path, [
    { name: "a.scale", dtype: "F32", shape: [], late: true, data: () => bytesOf(Float32Array.of(scale)) },
    { name: "a.weight", dtype: "I8", shape: [3], data: () => ((scale = 5), Uint8Array.of(1, 2, 3)) },
  ]);
  const file = await native.openTensorFile(path);
  expect([...new Float32Array((await file.read("a.scale")).buffer)]).toEqual([5]);
  expect([...(await file.read("a.weight"))]).toEqual([1, 2, 3]);
  const part = new Uint8Array(2);
  await file.readPart("a.weight", part, 1);
  expect([...part]).toEqual([2, 3]);
  await expect(file.readPart("a.weight", part, 2)).rejects.toThrow(RangeError);
  await file.close();
  rmSync(folder, { recursive: true });
});
