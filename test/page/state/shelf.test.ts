import { describe, expect, test } from "vitest";
import { createShelf } from "../../../page/src/state/shelf.ts";
import { everything } from "../../../page/src/state/library.ts";
import type { AdapterNotes } from "../../../page/src/state/notes.ts";

const entry = (id: string, family = "sdxl") => ({ id, kind: "adapter", folder: "f", name: `${id}.safetensors`, family }) as never;
const settled = () => new Promise((resolve) => setTimeout(resolve));

/** A shelf, and notes that come when they are told. */
function bench() {
  const known = new Map<string, Partial<AdapterNotes>>();
  const asked: (readonly string[])[] = [];
  let tell: (ids: ReadonlySet<string>) => void = () => undefined;
  const shelf = createShelf({
    of: (id) => known.get(id) as AdapterNotes | undefined,
    all: (ids) => void asked.push(ids),
    subscribe: (listener) => ((tell = listener), () => undefined),
  });
  return {
    shelf,
    asked,
    noted(notes: Readonly<Record<string, Partial<AdapterNotes>>>) {
      for (const [id, note] of Object.entries(notes)) known.set(id, { title: null, triggerWords: [], ...note });
      tell(new Set(Object.keys(notes)));
    },
    shown: () => shelf.view().shown.map(({ id }) => id),
  };
}

describe("a shelf", () => {
  test("has the adapters, their families and what the filter lets through", async () => {
    const { shelf, asked, shown } = bench();
    shelf.setCatalog([entry("a"), entry("b", "flux"), { ...(entry("c") as object), kind: "checkpoint" } as never]);
    await settled();
    expect(shelf.view().families).toEqual([
      ["flux", 1],
      ["sdxl", 1],
    ]);
    expect([shown(), asked]).toEqual([["a", "b"], [["a", "b"]]]);
    shelf.setFilter({ ...everything, family: "flux" });
    await settled();
    expect(shown()).toEqual(["b"]);
  });

  test("counts bases up and down as notes come, for its own adapters alone", async () => {
    const { shelf, noted } = bench();
    shelf.setCatalog([entry("a"), entry("b")]);
    await settled();
    noted({ a: { base: "Pony" }, b: { base: "Pony" }, elsewhere: { base: "Pony" } });
    expect(shelf.view().bases).toEqual([["Pony", 2]]);
    noted({ b: { base: "Illustrious" } });
    expect(shelf.view().bases).toEqual([
      ["Illustrious", 1],
      ["Pony", 1],
    ]);
    shelf.setCatalog([entry("b")]);
    await settled();
    expect(shelf.view().bases).toEqual([["Illustrious", 1]]);
  });

  test("a search finds what notes bring later, and is not done again for notes that it does not look into", async () => {
    const { shelf, noted, shown } = bench();
    shelf.setCatalog([entry("a"), entry("b")]);
    shelf.setFilter({ ...everything, text: "brush" });
    await settled();
    expect(shown()).toEqual([]);
    noted({ b: { base: null, triggerWords: ["Brush pen"] } });
    await settled();
    expect(shown()).toEqual(["b"]);
    shelf.setFilter(everything);
    await settled();
    const before = shelf.view().shown;
    noted({ a: { base: null, title: "Brush" } });
    await settled();
    expect(shelf.view().shown).toBe(before);
  });
});
