import { describe, expect, test } from "vitest";

import { dtypeBytes, native, type FloatDtype, type LowRankFactor, type MergeLowRankJob } from "../../native/ts/index.ts";
import { bytesOf, implementations, kernelPair, randomFrom } from "./both.ts";
import { rounderOf, specs, valueOf } from "./spec.ts";

const dtypes: readonly FloatDtype[] = ["F16", "BF16", "F32", "F64", "F8_E4M3", "F8_E5M2"];

function floats(random: () => number, count: number, size = 1): Float32Array {
  return Float32Array.from({ length: count }, () => Math.fround((random() * 2 - 1) * size));
}

function factor(random: () => number, rows: number, cols: number, rank: number, scale: number): LowRankFactor {
  return { up: floats(random, rows * rank), down: floats(random, rank * cols), rank, scale };
}

/** Base codes of a dtype as exact doubles, and as the bytes of the job. */
function baseOf(random: () => number, count: number, dtype: FloatDtype): { bytes: Uint8Array; values: number[] } {
  const wanted = floats(random, count);
  if (dtype === "F32") return { bytes: bytesOf(wanted), values: [...wanted] };
  if (dtype === "F64") return { bytes: bytesOf(Float64Array.from(wanted)), values: [...wanted] };
  const round = rounderOf(specs[dtype]);
  const codes = [...wanted].map(round);
  return {
    bytes: bytesOf(specs[dtype].bits === 16 ? Uint16Array.from(codes) : Uint8Array.from(codes)),
    values: codes.map((code) => valueOf(code, specs[dtype])),
  };
}

/** Output bytes as exact doubles. */
function valuesOf(bytes: Uint8Array, dtype: FloatDtype): number[] {
  if (dtype === "F32") return [...new Float32Array(bytes.buffer)];
  if (dtype === "F64") return [...new Float64Array(bytes.buffer)];
  return [...(specs[dtype].bits === 16 ? new Uint16Array(bytes.buffer) : bytes)].map((code) => valueOf(code, specs[dtype]));
}

/** base * baseScale + sum of scale * up * down in double, not rounded; `size` is what the error is measured against. */
function oracle(
  base: readonly number[],
  job: Pick<MergeLowRankJob, "rows" | "cols" | "factors" | "baseScale">,
): { exact: Float64Array; size: Float64Array } {
  const { rows, cols, factors } = job;
  const exact = new Float64Array(rows * cols);
  const size = new Float64Array(rows * cols);
  for (let row = 0; row < rows; row++) {
    for (let col = 0; col < cols; col++) {
      const at = row * cols + col;
      exact[at] = (base[at] ?? 0) * (job.baseScale ?? 1);
      size[at] = Math.abs(exact[at]!);
      for (const { up, down, rank, scale } of factors) {
        for (let r = 0; r < rank; r++) {
          const term = scale * up[row * rank + r]! * down[r * cols + col]!;
          exact[at] = exact[at]! + term;
          size[at] = size[at]! + Math.abs(term);
        }
      }
    }
  }
  return { exact, size };
}

describe.each(implementations)("mergeLowRank (%s)", (_name, kernels) => {
  const merge = async (job: Omit<MergeLowRankJob, "out">): Promise<Uint8Array> => {
    const out = new Uint8Array(job.rows * job.cols * dtypeBytes[job.outDtype]);
    await kernels.mergeLowRank({ ...job, out });
    return out;
  };

  // Sizes around tile, panel, block and chunk edges.
  test.each([
    [1, 1, [1]],
    [3, 5, [2]],
    [8, 32, [4]],
    [9, 33, [1, 3]],
    [33, 255, [7]],
    [32, 256, [16]],
    [41, 257, [5, 8, 1]],
    [64, 600, [32]],
    [7, 2049, [3]],
    [130, 17, [64, 64]],
  ] as const)("%i x %i with ranks %j equals float64 within f32 accumulation", async (rows, cols, ranks) => {
    const random = randomFrom(rows * 1000 + cols);
    const base = baseOf(random, rows * cols, "F32");
    const factors = ranks.map((rank, index) => factor(random, rows, cols, rank, index % 2 === 0 ? 0.37 : -1.3));
    const out = new Float32Array((await merge({ base: base.bytes, baseDtype: "F32", outDtype: "F32", rows, cols, factors })).buffer);
    const { exact, size } = oracle(base.values, { rows, cols, factors });
    for (const [at, value] of out.entries()) {
      if (!(Math.abs(value - exact[at]!) <= 4e-7 * size[at]!)) expect.fail(`element ${at}: expected ${exact[at]}, got ${value}`);
    }
  });

  test.each(dtypes.flatMap((from) => dtypes.map((to) => [from, to] as const)))(
    "%s base to %s output rounds once",
    async (baseDtype, outDtype) => {
      const [rows, cols] = [19, 83];
      const random = randomFrom(5);
      const base = baseOf(random, rows * cols, baseDtype);
      // Powers of two keep every product and sum exact in f32, so the one rounding is all there is.
      const exactFactor: LowRankFactor = {
        up: Float32Array.from({ length: rows }, (_, i) => 2 ** -(i % 3)),
        down: Float32Array.from({ length: cols }, (_, i) => (i % 2 === 0 ? 0.25 : -0.125)),
        rank: 1,
        scale: 0.5,
      };
      const out = await merge({ base: base.bytes, baseDtype, outDtype, rows, cols, factors: [exactFactor] });
      const written = valuesOf(out, outDtype);
      for (let at = 0; at < rows * cols; at++) {
        const sum = Math.fround(base.values[at]! + 0.5 * exactFactor.up[Math.floor(at / cols)]! * exactFactor.down[at % cols]!);
        const expected = outDtype === "F32" || outDtype === "F64" ? sum : valueOf(rounderOf(specs[outDtype])(sum), specs[outDtype]);
        if (written[at] !== expected) expect.fail(`element ${at}: expected ${expected}, got ${written[at]}`);
      }
    },
  );

  test("without factors it is the conversion of the base", async () => {
    const base = baseOf(randomFrom(3), 77 * 13, "F16");
    const out = await merge({ base: base.bytes, baseDtype: "F16", outDtype: "F32", rows: 77, cols: 13, factors: [] });
    expect([...new Float32Array(out.buffer)]).toEqual(base.values);
    expect(await merge({ base: base.bytes, baseDtype: "F16", outDtype: "F16", rows: 77, cols: 13, factors: [] })).toEqual(base.bytes);
  });

  test("baseScale multiplies the base, not the factors", async () => {
    const random = randomFrom(11);
    const base = baseOf(random, 40 * 24, "F8_E4M3");
    const job = { rows: 40, cols: 24, baseScale: 0.03125, factors: [factor(random, 40, 24, 2, 0.01)] };
    const out = new Float32Array((await merge({ ...job, base: base.bytes, baseDtype: "F8_E4M3", outDtype: "F32" })).buffer);
    const { exact, size } = oracle(base.values, job);
    for (const [at, value] of out.entries())
      if (!(Math.abs(value - exact[at]!) <= 4e-7 * size[at]!)) expect.fail(`element ${at}: expected ${exact[at]}, got ${value}`);
  });

  test("base and output may be the same buffer; the bits equal those of two buffers", async () => {
    const random = randomFrom(23);
    const base = baseOf(random, 100 * 300, "F32");
    const job = { rows: 100, cols: 300, baseDtype: "F32", outDtype: "F32", factors: [factor(random, 100, 300, 6, 0.7)] } as const;
    const apart = await merge({ ...job, base: base.bytes });
    const inPlace = base.bytes.slice();
    await kernels.mergeLowRank({ ...job, base: inPlace, out: inPlace });
    expect(Buffer.from(inPlace).equals(apart)).toBe(true);
  });

  test("a repeated merge gives identical bits, and base and factors are not written", async () => {
    const random = randomFrom(31);
    const base = baseOf(random, 320 * 320, "F16");
    const factors = [factor(random, 320, 320, 16, 0.8), factor(random, 320, 320, 4, -0.3)];
    const before = [base.bytes.slice(), factors[0]!.up.slice(), factors[1]!.down.slice()];
    const job = { base: base.bytes, baseDtype: "F16", outDtype: "F32", rows: 320, cols: 320, factors } as const;
    const first = await merge(job);
    expect(Buffer.from(await merge(job)).equals(first)).toBe(true);
    expect([base.bytes, factors[0]!.up, factors[1]!.down]).toEqual(before);
  });

  test("outputs that start at odd addresses are written whole and nothing beside them", async () => {
    const random = randomFrom(41);
    const [rows, cols] = [300, 280];
    const base = baseOf(random, rows * cols, "F16");
    const factors = [factor(random, rows, cols, 3, 0.5)];
    const expected = await merge({ base: base.bytes, baseDtype: "F16", outDtype: "F32", rows, cols, factors });
    for (const offset of [1, 4, 12, 16, 60]) {
      const room = new Uint8Array(offset + expected.byteLength + 65).fill(0x55);
      await kernels.mergeLowRank({
        base: base.bytes,
        baseDtype: "F16",
        out: room.subarray(offset, offset + expected.byteLength),
        outDtype: "F32",
        rows,
        cols,
        factors,
      });
      expect(Buffer.from(room.subarray(offset, offset + expected.byteLength)).equals(expected)).toBe(true);
      expect([...room.subarray(0, offset), ...room.subarray(offset + expected.byteLength)].every((byte) => byte === 0x55)).toBe(true);
    }
  });

  test("empty shapes and rank 0 are legal", async () => {
    await merge({ base: new Uint8Array(0), baseDtype: "F32", outDtype: "F16", rows: 0, cols: 5, factors: [] });
    await merge({
      base: new Uint8Array(0),
      baseDtype: "F32",
      outDtype: "F16",
      rows: 5,
      cols: 0,
      factors: [factor(randomFrom(1), 5, 0, 2, 1)],
    });
    const base = baseOf(randomFrom(2), 12, "F32");
    expect(
      await merge({ base: base.bytes, baseDtype: "F32", outDtype: "F32", rows: 3, cols: 4, factors: [factor(randomFrom(1), 3, 4, 0, 1)] }),
    ).toEqual(base.bytes);
  });

  test("overflow becomes Inf in f16 and the largest value in fp8; NaN stays NaN", async () => {
    const base = bytesOf(Float32Array.of(65000, -65000, 1, NaN));
    const factors = [{ up: Float32Array.of(1), down: Float32Array.of(1e6, -1e6, 0, 0), rank: 1, scale: 1 }];
    const job = { base, baseDtype: "F32", rows: 1, cols: 4, factors } as const;
    expect([...new Uint16Array((await merge({ ...job, outDtype: "F16" })).buffer)]).toEqual([0x7c00, 0xfc00, 0x3c00, 0x7e00]);
    expect([...(await merge({ ...job, outDtype: "F8_E4M3" }))]).toEqual([0x7e, 0xfe, 0x38, 0x7f]);
    expect([...(await merge({ ...job, outDtype: "F8_E5M2" }))]).toEqual([0x7b, 0xfb, 0x3c, 0x7e]);
  });

  test("an aborted signal rejects with its reason, before and during the work", async () => {
    const [rows, cols] = [4096, 4096];
    const job: MergeLowRankJob = {
      base: new Uint8Array(rows * cols * 4),
      baseDtype: "F32",
      out: new Uint8Array(rows * cols * 4),
      outDtype: "F32",
      rows,
      cols,
      factors: [{ up: new Float32Array(rows * 32), down: new Float32Array(32 * cols), rank: 32, scale: 1 }],
    };
    await expect(kernels.mergeLowRank({ ...job, signal: AbortSignal.abort(new Error("before")) })).rejects.toThrow("before");
    const controller = new AbortController();
    const running = kernels.mergeLowRank({ ...job, signal: controller.signal });
    controller.abort(new Error("during"));
    await expect(running).rejects.toThrow("during");
  });

  test("the event loop turns while a large job runs", async () => {
    let turns = 0;
    let running = true;
    const turn = (): void => {
      turns += 1;
      if (running) setImmediate(turn);
    };
    setImmediate(turn);
    await kernels.convert(new Uint8Array(2 * 2 ** 24), "F16", new Uint8Array(2 * 2 ** 24), "BF16", 2 ** 24);
    running = false;
    expect(turns).toBeGreaterThan(1);
  });

  test("a job that does not fit is refused before a byte is written", async () => {
    const good = (): MergeLowRankJob => ({
      base: new Uint8Array(24),
      baseDtype: "F32",
      out: new Uint8Array(24).fill(9),
      outDtype: "F32",
      rows: 2,
      cols: 3,
      factors: [{ up: new Float32Array(2), down: new Float32Array(3), rank: 1, scale: 1 }],
    });
    const bad: Partial<MergeLowRankJob>[] = [
      { base: new Uint8Array(23) },
      { rows: -1 },
      { cols: 2.5 },
      { rows: 2 ** 40, cols: 2 ** 40 },
      { baseScale: NaN },
      { factors: [{ up: new Float32Array(1), down: new Float32Array(3), rank: 1, scale: 1 }] },
      { factors: [{ up: new Float32Array(2), down: new Float32Array(2), rank: 1, scale: 1 }] },
      { factors: [{ up: new Float32Array(2), down: new Float32Array(3), rank: 1, scale: NaN }] },
      { factors: [{ up: new Float32Array(2), down: new Float32Array(3), rank: -1, scale: 1 }] },
    ];
    for (const change of bad) {
      const job = { ...good(), ...change };
      await expect(kernels.mergeLowRank(job), JSON.stringify(Object.keys(change))).rejects.toThrow(RangeError);
      expect(job.out.every((byte) => byte === 9)).toBe(true);
    }
    const room = new Uint8Array(40);
    await expect(kernels.mergeLowRank({ ...good(), base: room.subarray(0, 24), out: room.subarray(8, 32) })).rejects.toThrow(/overlap/);
    await expect(kernels.mergeLowRank({ ...good(), out: new Uint8Array(23) })).rejects.toThrow(RangeError);
  });
});

describe.each(implementations)("matmul (%s)", (_name, kernels) => {
  test.each([
    [1, 1, 1],
    [5, 3, 7],
    [8, 256, 32],
    [17, 257, 65],
    [40, 700, 100],
    [3, 0, 4],
  ])("%i x %i x %i equals float64", async (m, k, n) => {
    const random = randomFrom(m + k + n);
    const [a, b] = [floats(random, m * k), floats(random, k * n)];
    const start = floats(random, m * n);
    for (const accumulate of [false, true]) {
      const out = start.slice();
      await kernels.matmul(a, b, m, k, n, out, -0.7, accumulate);
      const { exact, size } = oracle(accumulate ? [...start] : [], {
        rows: m,
        cols: n,
        factors: [{ up: a, down: b, rank: k, scale: -0.7 }],
      });
      for (const [at, value] of out.entries()) {
        if (!(Math.abs(value - exact[at]!) <= 1e-6 * size[at]!)) expect.fail(`element ${at}: expected ${exact[at]}, got ${value}`);
      }
    }
  });

  test("arguments that do not fit are refused", async () => {
    const a = new Float32Array(6);
    await expect(kernels.matmul(a, new Float32Array(5), 2, 3, 2, new Float32Array(4), 1, false)).rejects.toThrow(RangeError);
    await expect(kernels.matmul(a, new Float32Array(6), 2, 3, 2, new Float32Array(3), 1, false)).rejects.toThrow(RangeError);
    await expect(kernels.matmul(a, new Float32Array(6), 2, 3, 2, a, 1, false)).rejects.toThrow(/overlap/);
  });
});

test("native and fallback agree within 1e-6 of the sum's size", async ({ skip }) => {
  if (native.kind !== "native") skip("REFIT_NATIVE=off: there is no addon to compare with");
  const random = randomFrom(99);
  for (const [rows, cols, ranks] of [
    [320, 768, [16]],
    [129, 1000, [32, 8, 4]],
    [64, 64, [128]],
  ] as const) {
    const base = baseOf(random, rows * cols, "F16");
    const factors = ranks.map((rank) => factor(random, rows, cols, rank, 0.6));
    const job = { base: base.bytes, baseDtype: "F16", outDtype: "F32", rows, cols, factors } as const;
    const [a, b] = [new Float32Array(rows * cols), new Float32Array(rows * cols)];
    await kernelPair.chosen.mergeLowRank({ ...job, out: bytesOf(a) });
    await kernelPair.fallback.mergeLowRank({ ...job, out: bytesOf(b) });
    const { size } = oracle(base.values, job);
    for (const [at, value] of a.entries())
      if (Math.abs(value - b[at]!) > 1e-6 * size[at]!) expect.fail(`element ${at}: ${value} and ${b[at]}`);
  }
});
