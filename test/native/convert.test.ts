import { describe, expect, test } from "vitest";

import { dtypeBytes, type FloatDtype } from "../../native/ts/index.ts";
import { bytesOf, implementations, randomFrom } from "./both.ts";
import { rounderOf, specs, valueOf } from "./spec.ts";

type Small = keyof typeof specs;
const small = Object.keys(specs) as Small[];

function allCodes(dtype: Small): Uint8Array {
  const count = 2 ** specs[dtype].bits;
  return bytesOf(
    specs[dtype].bits === 16
      ? Uint16Array.from({ length: count }, (_, code) => code)
      : Uint8Array.from({ length: count }, (_, code) => code),
  );
}

function codesOf(bytes: Uint8Array, dtype: Small): Uint16Array | Uint8Array {
  return specs[dtype].bits === 16 ? new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 2) : bytes;
}

const isNanCode = (code: number, dtype: Small): boolean => Number.isNaN(valueOf(code, specs[dtype]));

describe.each(implementations)("convert (%s)", (_name, kernels) => {
  const convert = async (source: Uint8Array, from: FloatDtype, to: FloatDtype, count: number, scale?: number): Promise<Uint8Array> => {
    const target = new Uint8Array(count * dtypeBytes[to]);
    await kernels.convert(source, from, target, to, count, scale);
    return target;
  };

  test.each(small)("every %s pattern decodes to the value of its definition", async (dtype) => {
    const codes = allCodes(dtype);
    const count = 2 ** specs[dtype].bits;
    const asF32 = new Float32Array((await convert(codes, dtype, "F32", count)).buffer);
    const asF64 = new Float64Array((await convert(codes, dtype, "F64", count)).buffer);
    for (let code = 0; code < count; code++) {
      const expected = valueOf(code, specs[dtype]);
      if (!Object.is(asF32[code], expected) || !Object.is(asF64[code], expected))
        expect.fail(`code ${code}: expected ${expected}, got ${asF32[code]} and ${asF64[code]}`);
    }
  });

  test.each(small)("every %s value survives the way through f32 and back", async (dtype) => {
    const codes = allCodes(dtype);
    const count = 2 ** specs[dtype].bits;
    const back = codesOf(await convert(await convert(codes, dtype, "F32", count), "F32", dtype, count), dtype);
    for (let code = 0; code < count; code++) {
      const value = valueOf(code, specs[dtype]);
      const saturated = specs[dtype].saturates && !Number.isFinite(value);
      if (Number.isNaN(value) ? !isNanCode(back[code]!, dtype) : !saturated && back[code] !== code)
        expect.fail(`code ${code} came back as ${back[code]}`);
    }
  });

  // Neighbours, midpoints, and the f32 values right beside the midpoints are where rounding goes wrong.
  test.each(small)("F32 to %s rounds to nearest even at every boundary", async (dtype) => {
    const round = rounderOf(specs[dtype]);
    const inputs: number[] = [0, -0, Infinity, -Infinity, 3.4028234663852886e38, -3.4028234663852886e38, 1e-45, -1e-45];
    const next = new Float32Array(1);
    const nextBits = new Uint32Array(next.buffer);
    for (let code = 0; code + 1 < 2 ** (specs[dtype].bits - 1); code++) {
      const [a, b] = [valueOf(code, specs[dtype]), valueOf(code + 1, specs[dtype])];
      if (Number.isNaN(a)) continue;
      const middle = Number.isFinite(b) ? (a + b) / 2 : a + (a - valueOf(code - 1, specs[dtype])) / 2;
      for (const value of [a, middle]) {
        if (!Number.isFinite(value)) continue;
        next[0] = value;
        inputs.push(next[0]!, -next[0]!);
        const bits = nextBits[0]!;
        nextBits[0] = bits + 1;
        inputs.push(next[0]!, -next[0]!);
        if (bits === 0) continue;
        nextBits[0] = bits - 1;
        inputs.push(next[0]!, -next[0]!);
      }
    }
    const source = Float32Array.from(inputs);
    const codes = codesOf(await convert(bytesOf(source), "F32", dtype, source.length), dtype);
    for (const [index, value] of source.entries()) {
      if (codes[index] !== round(value)) expect.fail(`${value}: expected code ${round(value)}, got ${codes[index]}`);
    }
  });

  test.each(small)("random F32 bit patterns to %s", async (dtype) => {
    const round = rounderOf(specs[dtype]);
    const random = randomFrom(7);
    const source = new Float32Array(200_003);
    const bits = new Uint32Array(source.buffer);
    for (let i = 0; i < bits.length; i++) bits[i] = Math.floor(random() * 2 ** 32);
    const codes = codesOf(await convert(bytesOf(source), "F32", dtype, source.length), dtype);
    for (const [index, value] of source.entries()) {
      const ok = Number.isNaN(value) ? isNanCode(codes[index]!, dtype) : codes[index] === round(value);
      if (!ok) expect.fail(`${value}: expected code ${round(value)}, got ${codes[index]}`);
    }
  });

  // Rounding twice (to f32, then on) would lose the last bit here: the double is off a midpoint by less than f32 can see.
  test.each(small)("F64 to %s rounds once", async (dtype) => {
    const round = rounderOf(specs[dtype]);
    const inputs: number[] = [1e300, -1e300, 5e-324, 1e-50];
    for (let code = 1; code < 2 ** (specs[dtype].bits - 1) - 2; code += specs[dtype].bits === 16 ? 37 : 1) {
      const [a, b] = [valueOf(code, specs[dtype]), valueOf(code + 1, specs[dtype])];
      if (!Number.isFinite(a) || !Number.isFinite(b)) continue;
      const middle = (a + b) / 2;
      inputs.push(middle, middle * (1 + 2 ** -50), middle * (1 - 2 ** -50), -middle * (1 + 2 ** -50));
    }
    const source = Float64Array.from(inputs);
    const codes = codesOf(await convert(bytesOf(source), "F64", dtype, source.length), dtype);
    for (const [index, value] of source.entries()) {
      if (codes[index] !== round(value)) expect.fail(`${value}: expected code ${round(value)}, got ${codes[index]}`);
    }
  });

  test("F64 to F32 rounds to nearest even", async () => {
    const source = Float64Array.of(1 + 2 ** -24, 1 + 2 ** -24 + 2 ** -50, 1 + 3 * 2 ** -24, 1e39, 1e-46, -0);
    const out = new Float32Array((await convert(bytesOf(source), "F64", "F32", source.length)).buffer);
    expect([...out]).toEqual([...source].map(Math.fround));
  });

  test.each([
    ["F32", 4],
    ["F16", 2],
    ["BF16", 2],
    ["F8_E4M3", 1],
    ["F8_E5M2", 1],
    ["F64", 8],
  ] as const)("NaN becomes one canonical %s NaN", async (dtype, bytes) => {
    const bits = Uint32Array.of(0x7fc00000, 0xffc00000, 0x7f800001, 0xff812345);
    const out = await convert(bytesOf(bits), "F32", dtype, 4, 2);
    for (let i = 1; i < 4; i++) expect(out.slice(i * bytes, (i + 1) * bytes)).toEqual(out.slice(0, bytes));
  });

  test("equal dtypes are copied bit for bit, NaN payloads included", async () => {
    const bits = bytesOf(Uint32Array.of(0x7fc00001, 0xff812345, 0x80000000, 1));
    expect(await convert(bits, "F32", "F32", 4)).toEqual(bits);
  });

  test("scale is one f32 multiply, also in place", async () => {
    const values = Float32Array.from({ length: 5000 }, (_, i) => Math.fround(Math.sin(i) * 3));
    const expected = values.map((value) => Math.fround(value * Math.fround(0.1)));
    expect(await convert(bytesOf(values), "F32", "F32", 5000, 0.1)).toEqual(bytesOf(expected));
    await kernels.convert(bytesOf(values), "F32", bytesOf(values), "F32", 5000, 0.1);
    expect(bytesOf(values)).toEqual(bytesOf(expected));
  });

  test("sources and targets may start anywhere, and nothing beside the target is touched", async () => {
    for (const offset of [0, 1, 2, 3, 5]) {
      const source = new Uint8Array(offset + 2 * 1001);
      for (let i = 0; i < 1001; i++) source.set([0, 0x3c], offset + 2 * i);
      const target = new Uint8Array(offset + 4 * 1001 + 7).fill(0xaa);
      await kernels.convert(source.subarray(offset), "F16", target.subarray(offset, offset + 4 * 1001), "F32", 1001);
      expect(new Float32Array(target.slice(offset, offset + 4 * 1001).buffer).every((value) => value === 1)).toBe(true);
      expect([...target.subarray(0, offset), ...target.subarray(offset + 4 * 1001)].every((byte) => byte === 0xaa)).toBe(true);
    }
  });

  test.each(["F16", "BF16", "F32", "F64", "F8_E4M3", "F8_E5M2"] as const)("firstNonFinite finds the first of %s", async (dtype) => {
    const count = 300_001;
    const bytes = new Uint8Array(count * dtypeBytes[dtype]);
    expect(await kernels.firstNonFinite(bytes, dtype, count)).toBe(-1);
    expect(await kernels.firstNonFinite(bytes, dtype, 0)).toBe(-1);
    for (const index of [count - 1, 270_000, 4097, 0]) {
      bytes.fill(0xff, index * dtypeBytes[dtype], (index + 1) * dtypeBytes[dtype]);
      expect(await kernels.firstNonFinite(bytes, dtype, count)).toBe(index);
    }
  });

  test("firstNonFinite agrees with every small pattern", async () => {
    for (const dtype of small) {
      const codes = allCodes(dtype);
      const size = dtypeBytes[dtype];
      for (let code = 0; code < 2 ** specs[dtype].bits; code += specs[dtype].bits === 16 ? 251 : 1) {
        expect(await kernels.firstNonFinite(codes.slice(code * size), dtype, 1)).toBe(
          Number.isFinite(valueOf(code, specs[dtype])) ? -1 : 0,
        );
      }
    }
  });

  test("arguments that do not fit are refused before a byte is written", async () => {
    await expect(kernels.convert(new Uint8Array(3), "F16", new Uint8Array(8), "F32", 2)).rejects.toThrow(/at least 4 bytes/);
    await expect(kernels.convert(new Uint8Array(4), "F16", new Uint8Array(7), "F32", 2)).rejects.toThrow(/at least 8 bytes/);
    await expect(kernels.convert(new Uint8Array(4), "F16", new Uint8Array(8), "F32", -1)).rejects.toThrow(/non-negative/);
    await expect(kernels.convert(new Uint8Array(4), "F16", new Uint8Array(8), "F32", 2, NaN)).rejects.toThrow(/NaN/);
    const shared = new Uint8Array(16);
    await expect(kernels.convert(shared, "F16", shared, "F32", 2)).rejects.toThrow(/overlap/);
    await expect(kernels.firstNonFinite(new Uint8Array(3), "F32", 1)).rejects.toThrow(/at least 4 bytes/);
  });
});
