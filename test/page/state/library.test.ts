import { describe, expect, test } from "vitest";
import {
  Counts,
  everything,
  fitting,
  isShelved,
  looksIntoNotes,
  nameParts,
  searchText,
  type Filter,
  type Written,
} from "../../../page/src/state/library.ts";

const entry = (name: string, more: object = {}) => ({
  id: name,
  kind: "adapter" as const,
  folder: "f" as string | null,
  name,
  family: "sdxl" as never,
  sha256: null,
  ...more,
});
type Entry = ReturnType<typeof entry>;

/** Names of those that the filter lets through. */
const through = (entries: readonly Entry[], filter: Partial<Filter>, notes: Readonly<Record<string, Written>> = {}) =>
  entries
    .filter(
      fitting(
        { ...everything, ...filter },
        { textOf: ({ id, name }) => searchText(name, notes[id]), baseOf: (id) => notes[id]?.base ?? null },
      ),
    )
    .map(({ name }) => name);

describe("the library's list", () => {
  test("checkpoints and adapters pushed by content are not in it", () => {
    expect(
      [entry("a"), { ...entry("b"), kind: "checkpoint" as const }, entry("c", { folder: null })].filter(isShelved).map(({ name }) => name),
    ).toEqual(["a"]);
  });

  test("every word has to be in the name, in any case and order", () => {
    const entries = [entry("sub/Ink style.safetensors"), entry("ink.safetensors")];
    expect(through(entries, { text: "STYLE ink" })).toEqual(["sub/Ink style.safetensors"]);
    expect(through(entries, { text: " " })).toHaveLength(2);
    expect(through(entries, { text: "pen" })).toEqual([]);
  });

  test("titles and trigger words are searched, and a base chooses, as far as notes are known", () => {
    const notes = { a: { title: "Brush Pen", base: "Pony", triggerWords: ["inkwash"] } };
    expect(through([entry("a"), entry("b")], { text: "pen wash" }, notes)).toEqual(["a"]);
    expect(through([entry("a"), entry("b")], { base: "Pony" }, notes)).toEqual(["a"]);
    expect([everything, { ...everything, text: "a" }, { ...everything, base: "Pony" }].map(looksIntoNotes)).toEqual([false, true, true]);
  });

  test("family, folder and the workflow narrow it; what has no known family may fit", () => {
    const entries = [entry("a"), entry("b", { family: "flux", folder: "g" }), entry("c", { family: null })];
    expect(through(entries, { family: "flux" })).toEqual(["b"]);
    expect(through(entries, { family: "unknown" })).toEqual(["c"]);
    expect(through(entries, { folder: "f" })).toEqual(["a", "c"]);
    expect(through(entries, { fits: new Set(["flux"]) })).toEqual(["b", "c"]);
  });

  test("choices come with their counts, the most frequent first, and go when nothing has them", () => {
    const counts = new Counts();
    for (const value of ["b", "a", "a", null, "c"]) counts.add(value);
    counts.add("c", -1);
    expect(counts.sorted).toEqual([
      ["a", 2],
      ["b", 1],
    ]);
    expect(nameParts("styles/ink v2.safetensors")).toEqual({ title: "ink v2", path: "styles" });
  });
});
