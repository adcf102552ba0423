import { expect, it } from "vitest";
import { findByContent } from "../../../../sidecar/src/pipeline/resolve/by-content.ts";

type Catalog = Parameters<typeof findByContent>[0];

/** Adapters `a0`, `a1`, … with these contents, none of which was read; null: its file is gone. */
function catalogOf(contents: readonly (string | null)[]): { readonly catalog: Catalog; readonly read: string[] } {
  const read: string[] = [];
  const row = (id: string, more: object = {}) => [id, { kind: "adapter", id, problem: null, identity: null, ...more }] as const;
  const entries = new Map([
    row("checkpoint", { kind: "checkpoint" }),
    row("broken", { problem: { code: "CATALOG_HEADER", message: "" } }),
    row("known", { identity: { sha256: "of known", proof: "full" } }),
    ...contents.map((_, index) => row(`a${index}`)),
  ]);
  const catalog = {
    snapshot: () => ({ entries }),
    identity: (id: string) => {
      read.push(id);
      const sha256 = contents[Number(id.slice(1))] ?? null;
      return sha256 === null ? Promise.reject(new Error("it is gone")) : Promise.resolve({ sha256, proof: "full" });
    },
  };
  return { catalog: catalog as unknown as Catalog, read };
}

it("findByContent reads adapters that nobody has read, until one has the content", async () => {
  const { catalog, read } = catalogOf([null, "x", "wanted", "y", "z", "u"]);
  await expect(findByContent(catalog, "wanted")).resolves.toBe("a2");
  expect(read.slice(0, 3)).toEqual(["a0", "a1", "a2"]);
  expect(read.length).toBeLessThan(6);
});

it("findByContent says that none has it, or how many were not read in time", async () => {
  await expect(findByContent(catalogOf(["x", null]).catalog, "wanted")).rejects.toMatchObject({
    code: "CATALOG_ENTRY_UNKNOWN",
    message: expect.stringContaining("no catalogued adapter has this content") as string,
  });
  let now = 0;
  const { catalog } = catalogOf(["x", "y", "z", "u", "v"]);
  await expect(findByContent(catalog, "wanted", undefined, () => (now += 10_000))).rejects.toMatchObject({
    code: "CATALOG_ENTRY_UNKNOWN",
    message: expect.stringMatching(/has this content, [1-4] were not; ask again/) as string,
  });
});

it("findByContent ends with the call that asked for it", async () => {
  const { catalog, read } = catalogOf(["x", "y"]);
  await expect(findByContent(catalog, "wanted", AbortSignal.abort())).rejects.toThrow();
  expect(read).toEqual([]);
});
