import { describe, expect, test } from "vitest";
import { ReadAhead } from "../../../sidecar/src/delta/read/read-ahead.ts";

describe("ReadAhead", () => {
  const pieces = (sizes: readonly number[], loaded: number[]): ConstructorParameters<typeof ReadAhead<number>>[0] =>
    sizes.map((size, index) => ({ size, load: async () => (loaded.push(index), index) }));

  test("starts what follows, within bytes and pieces", async () => {
    const loaded: number[] = [];
    const ahead = new ReadAhead(pieces([1, 4, 4, 4, 1], loaded), { bytes: 8, pieces: 3 });
    expect(await ahead.take(0)).toBe(0);
    expect(loaded).toEqual([0, 1, 2]);
    expect(await ahead.take(1)).toBe(1);
    expect(loaded).toEqual([0, 1, 2, 3]);
    for (const index of [2, 3, 4]) expect(await ahead.take(index)).toBe(index);
    expect(loaded).toEqual([0, 1, 2, 3, 4]);
  });

  test("a piece larger than the window is loaded when its turn comes", async () => {
    const loaded: number[] = [];
    const ahead = new ReadAhead(pieces([1, 100, 1], loaded), { bytes: 8, pieces: 3 });
    await ahead.take(0);
    expect(loaded).toEqual([0]);
    await ahead.take(1);
    expect(loaded).toEqual([0, 1, 2]);
  });

  test("serves pieces out of order, each loaded once", async () => {
    const loaded: number[] = [];
    const ahead = new ReadAhead(pieces([1, 1, 1, 1], loaded), { bytes: 2, pieces: 2 });
    for (const index of [3, 0, 1, 2]) expect(await ahead.take(index)).toBe(index);
    expect([...loaded].sort()).toEqual([0, 1, 2, 3]);
    await expect(ahead.take(9)).rejects.toThrow(RangeError);
  });

  test("a failure reaches the taker of its piece only", async () => {
    const ahead = new ReadAhead([
      { size: 1, load: async () => 0 },
      { size: 1, load: async () => Promise.reject(new Error("gone")) },
    ]);
    expect(await ahead.take(0)).toBe(0);
    await expect(ahead.take(1)).rejects.toThrow("gone");
  });
});
