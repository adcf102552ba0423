import { describe, expect, test } from "vitest";
import { oldEntries, refreshed } from "../../../page/src/state/catalog.ts";

const entry = (id: string, name = id, more: object = {}) => ({ id, name, ...more }) as never;
const named = (...names: string[]) => names.map((name) => entry(name));

describe("the catalog of a page", () => {
  test("new entries come to their place, changed ones are replaced, those that went are gone", () => {
    const now = refreshed(named("b", "d", "f"), new Set(["a", "d", "e", "f", "g"]), [
      entry("g"),
      entry("a"),
      entry("e"),
      entry("d", "d", { delta: "ready" }),
    ]);
    expect(now).toEqual([entry("a"), entry("b"), entry("d", "d", { delta: "ready" }), entry("e"), entry("g")]);
  });

  test("an entry that got another name moves, and equal names go by id", () => {
    const renamed = refreshed(named("a", "b", "c"), new Set(["a"]), [entry("a", "z")]);
    expect(renamed).toEqual([entry("b"), entry("c"), entry("a", "z")]);
    expect(refreshed([entry("2", "same")], new Set(["1", "3"]), [entry("3", "same"), entry("1", "same")])).toEqual([
      entry("1", "same"),
      entry("2", "same"),
      entry("3", "same"),
    ]);
  });

  test("nothing named leaves it as it is", () => expect(refreshed(named("a", "b"), new Set(), [])).toEqual(named("a", "b")));

  test("events name the entries that they make old", () => {
    expect(oldEntries({ type: "catalog.changed", generation: 2, added: ["a"], changed: ["b"], removed: ["c"] })).toEqual(["a", "b", "c"]);
    expect(oldEntries({ type: "delta.ready", id: "d", ms: 1, bytes: 1, terms: 1, cached: false })).toEqual(["d"]);
    expect(oldEntries({ type: "job.many", queued: 1, running: 0, ended: 0 })).toEqual([]);
  });
});
