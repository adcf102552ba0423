import { describe, expect, it } from "vitest";
import type { AdapterEntry } from "../../../sidecar/src/catalog/types.ts";
import { liveFolderStack, parseStrength, type LiveFolderStack } from "../../../sidecar/src/plan/index.ts";

const entry = (name: string, changes: Partial<AdapterEntry> = {}): AdapterEntry => ({
  kind: "adapter",
  id: `id:${name}`,
  folder: null,
  tensors: 1,
  name,
  path: `/l/${name}`,
  sizeBytes: 1,
  identity: { sha256: `hash:${name}`, proof: "full" },
  family: "sd15",
  kinds: ["lowRank"],
  evidence: [],
  problem: null,
  ...changes,
});

describe("parseStrength", () => {
  it.each([
    ["name@0.8.safetensors", "name", 0.8],
    ["name.safetensors", "name", 1],
    ["name@-0.3.safetensors", "name", -0.3],
    ["name@+1.5.sft", "name", 1.5],
    ["name@.5.safetensors", "name", 0.5],
    ["name@1..safetensors", "name", 1],
    ["name@2.safetensors", "name", 2],
    ["sub/dir@3/name@0.25.safetensors", "sub/dir@3/name", 0.25],
    ["me@home.safetensors", "me@home", 1],
    ["v1.5 style@0.7.safetensors", "v1.5 style", 0.7],
    ["a@0.1@0.2.safetensors", "a@0.1", 0.2],
    ["@0.5.safetensors", "@0.5", 1],
    ["sub/@0.5.safetensors", "sub/@0.5", 1],
    ["name@1e1.safetensors", "name", 10],
    ["name@0,8.safetensors", "name", 0.8],
    ["name@v1.5.safetensors", "name@v1.5", 1],
    ["two\nlines@0.5.safetensors", "two\nlines", 0.5],
  ])("%j → %j at %d", (name, stem, strength) => expect(parseStrength(name)).toEqual({ stem, strength }));
  it("reads -0 as 0", () => expect(Object.is(parseStrength("a@-0.safetensors").strength, 0)).toBe(true));
});

const idsOf = ({ stack }: LiveFolderStack) => stack.map(({ adapter }) => adapter);

describe("liveFolderStack", () => {
  it("stacks in name order with strengths from the names", () => {
    const { stack } = liveFolderStack([entry("b@0.8.safetensors"), entry("a.safetensors")]);
    expect(stack).toEqual([
      { adapter: "id:a.safetensors", sha256: "hash:a.safetensors", strength: 1 },
      { adapter: "id:b@0.8.safetensors", sha256: "hash:b@0.8.safetensors", strength: 0.8 },
    ]);
  });
  it("does not reorder when a strength changes", () => {
    const order = (...names: string[]) => idsOf(liveFolderStack(names.map((name) => entry(name))));
    expect(order("ab.safetensors", "a@0.5.safetensors")).toEqual(["id:a@0.5.safetensors", "id:ab.safetensors"]);
    expect(order("ab.safetensors", "a@9.safetensors")).toEqual(["id:a@9.safetensors", "id:ab.safetensors"]);
  });
  it("orders by code unit of the composed form, whatever the order of arrival", () => {
    const names = ["Z.safetensors", "a.safetensors", "e\u0301.safetensors", "\u00e9b.safetensors"];
    const forward = idsOf(liveFolderStack(names.map((name) => entry(name))));
    expect(idsOf(liveFolderStack([...names].reverse().map((name) => entry(name))))).toEqual(forward);
    expect(forward).toEqual(["id:Z.safetensors", "id:a.safetensors", "id:e\u0301.safetensors", "id:\u00e9b.safetensors"]);
  });
  it("keeps the same adapter twice when two files hold it", () => {
    const twin = { identity: { sha256: "same", proof: "full" } } as const;
    expect(liveFolderStack([entry("a.safetensors", twin), entry("b@0.5.safetensors", twin)]).stack).toEqual([
      { adapter: "id:a.safetensors", sha256: "same", strength: 1 },
      { adapter: "id:b@0.5.safetensors", sha256: "same", strength: 0.5 },
    ]);
  });
  it("waits for a full hash and refuses problems and impossible strengths by name, without losing the others", () => {
    const result = liveFolderStack([
      entry("ok.safetensors"),
      entry("late.safetensors", { identity: null }),
      entry("sampled.safetensors", { identity: { sha256: "s", proof: "sampled" } }),
      entry("bad.safetensors", { problem: { code: "CATALOG_INCOMPLETE", message: "it is a pickle" } }),
      entry("loud@1000.safetensors"),
    ]);
    expect(idsOf(result)).toEqual(["id:ok.safetensors"]);
    expect(result.waiting).toEqual(["id:late.safetensors", "id:sampled.safetensors"]);
    expect(result.refused).toEqual([
      { id: "id:bad.safetensors", reason: "it is a pickle" },
      { id: "id:loud@1000.safetensors", reason: "expected a strength between -100 and 100 after the @, got 1000; rename the file" },
    ]);
  });
});
