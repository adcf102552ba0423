import { describe, expect, test } from "vitest";
import { decodeDeltaHeader, encodeDeltaHeader, type DeltaHeader, type Term } from "../../../sidecar/src/terms/index.ts";

const at = { target: { parameter: "p.weight" }, sourceKeys: ["k"] } as const;
const terms: readonly Term[] = [
  { ...at, kind: "lowRank", scale: 0.5, up: "a", down: "b", mid: "c", padTo: [4, 4], doraScale: "m", doraNorm: "merged" },
  {
    ...at,
    target: { parameter: "p.weight", slice: { start: 2, length: 2 }, swapHalves: true },
    kind: "hadamard",
    scale: 1,
    w1a: "a",
    w1b: "b",
    w2a: "c",
    w2b: "d",
    t1: "e",
    t2: "f",
  },
  { ...at, kind: "kronecker", scale: 1, w1: "a", w2a: "b", w2b: "c", t2: "d" },
  { ...at, kind: "glora", scale: 2, a1: "a", a2: "b", b1: "c", b2: "d" },
  { ...at, kind: "orthogonal", variant: "oft", blocks: "a", constraint: null, rescale: "b", strengthOnce: true },
  { ...at, kind: "orthogonal", variant: "boft", blocks: "a", constraint: 0.1 },
  { ...at, kind: "dense", value: "a" },
  { ...at, kind: "set", value: "a" },
  { ...at, kind: "channelScale", value: "a", axis: "columns" },
];
const header: DeltaHeader = {
  formatVersion: 1,
  adapter: "aa",
  structure: "bb",
  family: "flux",
  mode: "extended",
  terms,
  sources: { a: "k" },
  report: { used: ["k"], ignored: [{ key: "i", reason: "r" }], failed: [{ key: "f", reason: "r" }] },
  warnings: ["w"],
  problem: { code: "DELTA_NO_WEIGHT_CHANGES", message: "m" },
  bytes: 12,
};

describe("delta header", () => {
  test("every kind of term survives the trip", () => {
    expect(decodeDeltaHeader(encodeDeltaHeader(header))).toEqual(header);
    expect(decodeDeltaHeader(encodeDeltaHeader({ ...header, problem: null })).problem).toBeNull();
  });

  const wrong: readonly (readonly [string, unknown])[] = [
    ["unknown kind", { ...at, kind: "spell" }],
    ["no target", { kind: "dense", value: "a", sourceKeys: [] }],
    ["a scale that is no number", { ...at, kind: "glora", scale: "2", a1: "a", a2: "b", b1: "c", b2: "d" }],
    ["a scale that JSON cannot hold", { ...at, kind: "glora", scale: null, a1: "a", a2: "b", b1: "c", b2: "d" }],
    ["a missing factor", { ...at, kind: "glora", scale: 1, a1: "a", a2: "b", b1: "c" }],
    ["one core of two", { ...at, kind: "hadamard", scale: 1, w1a: "a", w1b: "b", w2a: "c", w2b: "d", t1: "e" }],
    ["a negative slice", { ...at, target: { parameter: "p", slice: { start: -1, length: 2 } }, kind: "dense", value: "a" }],
    ["a pad of fractions", { ...at, kind: "lowRank", scale: 1, up: "a", down: "b", padTo: [1.5] }],
    ["a pad of too many dimensions", { ...at, kind: "lowRank", scale: 1, up: "a", down: "b", padTo: Array(9).fill(1) }],
    ["an unknown axis", { ...at, kind: "channelScale", value: "a", axis: "depth" }],
    ["an unknown variant", { ...at, kind: "orthogonal", variant: "soft", blocks: "a", constraint: null }],
    ["an unknown norm", { ...at, kind: "dense", value: "a", doraNorm: "before" }],
    ["a list", [at]],
  ];
  for (const [name, term] of wrong) {
    test(`refuses ${name}`, () => {
      expect(() => decodeDeltaHeader({ refit_delta: JSON.stringify({ ...header, terms: [term] }) })).toThrow(
        /expected a whole delta file: (term 0: )?.+; it is rebuilt/,
      );
    });
  }

  test("refuses other fields of another type, and no metadata at all", () => {
    for (const change of [
      { family: "sd9" },
      { mode: "loose" },
      { bytes: -1 },
      { report: {} },
      { warnings: "w" },
      { sources: [] },
      { problem: {} },
      { terms: {} },
    ]) {
      expect(() => decodeDeltaHeader({ refit_delta: JSON.stringify({ ...header, ...change }) }), JSON.stringify(change)).toThrow(
        "expected a whole delta file",
      );
    }
    expect(() => decodeDeltaHeader({})).toThrow("no refit_delta metadata");
  });
});
