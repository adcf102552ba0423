import { describe, expect, test } from "vitest";
import { adaptersOf, counted, everything, matching, nameParts } from "../../../page/src/state/library.ts";

const entry = (name: string, more: object = {}) => ({
  id: name,
  kind: "adapter" as const,
  folder: "f" as string | null,
  name,
  family: "sdxl" as never,
  sha256: null,
  ...more,
});

describe("the library's list", () => {
  test("checkpoints and adapters pushed by content are not in it", () => {
    expect(
      adaptersOf([entry("a"), { ...entry("b"), kind: "checkpoint" as const }, entry("c", { folder: null })]).map(({ name }) => name),
    ).toEqual(["a"]);
  });

  test("every word has to be in the name, in any case and order", () => {
    const entries = [entry("sub/Ink style.safetensors"), entry("ink.safetensors")];
    const named = (text: string) => matching(entries, { ...everything, text }).map(({ name }) => name);
    expect(named("STYLE ink")).toEqual(["sub/Ink style.safetensors"]);
    expect(named(" ")).toHaveLength(2);
    expect(named("pen")).toEqual([]);
  });

  test("family, folder and the workflow narrow it; what has no known family may fit", () => {
    const entries = [entry("a"), entry("b", { family: "flux", folder: "g" }), entry("c", { family: null })];
    const left = (filter: object) => matching(entries, { ...everything, ...filter }).map(({ name }) => name);
    expect(left({ family: "flux" })).toEqual(["b"]);
    expect(left({ family: "unknown" })).toEqual(["c"]);
    expect(left({ folder: "f" })).toEqual(["a", "c"]);
    expect(left({ fits: new Set(["flux"]) })).toEqual(["b", "c"]);
  });

  test("choices come with their counts, the most frequent first", () => {
    expect(counted(["b", "a", "a", null], (value) => value)).toEqual([
      ["a", 2],
      ["b", 1],
    ]);
    expect(nameParts("styles/ink v2.safetensors")).toEqual({ title: "ink v2", path: "styles" });
  });
});
