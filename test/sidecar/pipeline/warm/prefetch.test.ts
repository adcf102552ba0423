import { beforeEach, describe, expect, it } from "vitest";
import type { Catalog, CatalogChange, CatalogEntry } from "../../../../sidecar/src/catalog/index.ts";
import { createScheduler } from "../../../../sidecar/src/jobs/index.ts";
import { createPrefetch } from "../../../../sidecar/src/pipeline/warm/prefetch.ts";
import type { Resolver } from "../../../../sidecar/src/pipeline/resolve/resolver.ts";
import { warmPolicy } from "../../../../sidecar/src/pipeline/warm/warm-policy.ts";

const entries = new Map<string, CatalogEntry>();
const states = new Map<string, "none" | "ready">();
let packed: string[];
let graphs: string[];
let options: Parameters<typeof warmPolicy>[0];

/** The part of an entry that the prefetch looks at. */
function put(kind: "adapter" | "checkpoint", id: string, family: string | null, folder = "/models"): string {
  entries.set(id, {
    id,
    kind,
    name: id,
    family,
    structure: kind === "checkpoint" ? `structure of ${family ?? "?"}` : undefined,
    problem: null,
    identity: null,
    path: `${folder}/${id}`,
  } as unknown as CatalogEntry);
  return id;
}
const change = (added: readonly string[], changed: readonly string[] = []): CatalogChange =>
  ({ added, changed, removed: [] }) as unknown as CatalogChange;

function make() {
  const jobs = createScheduler({ concurrency: 1, stepsActive: () => false, maxYieldMs: 0, onChange: () => undefined });
  const resolver = {
    checkpoint: async (id: string) => ({ entry: entries.get(id) }),
    delta: async (id: string, resolved: { entry: CatalogEntry }) => {
      states.set(id, "ready");
      packed.push(`${id} for ${resolved.entry.id}`);
    },
    deltaState: (id: string) => states.get(id) ?? "none",
    forget: (id: string) => void states.delete(id),
  } as unknown as Resolver;
  const prefetch = createPrefetch({
    catalog: { snapshot: () => ({ entries }) } as unknown as Catalog,
    resolver,
    jobs,
    mode: () => "comfyui",
    inUse: () => [],
    policy: () => warmPolicy(options),
    graph: async ({ entry }, urgency) => void graphs.push(`${entry.id} ${urgency}`),
  });
  const done = () => expect.poll(() => jobs.list().every(({ state }) => state === "done")).toBe(true);
  return { prefetch, jobs, done };
}

beforeEach(() => {
  entries.clear();
  states.clear();
  packed = [];
  graphs = [];
  options = { warm: "on", "warm-stacks": 2, "warm-folder": [], "quiet-hours": null };
});

describe("createPrefetch", () => {
  it("packs an adapter that arrives for the checkpoints of its family, and asks for the graph of a checkpoint", async () => {
    const { prefetch, done } = make();
    put("checkpoint", "c15", "sd15");
    put("checkpoint", "cxl", "sdxl");
    prefetch.onChange(change([put("adapter", "a", "sd15")]));
    await done();
    expect(packed).toEqual(["a for c15"]);
    prefetch.onChange(change(["c15"]));
    await expect.poll(() => graphs).toEqual(["c15 arrival"]);
  });

  it("packs adapters that came before the first checkpoint of their family when that arrives, each once", async () => {
    const { prefetch, done } = make();
    prefetch.onChange(change([put("adapter", "early", "sd15"), put("adapter", "other", "sdxl")]));
    expect(packed).toEqual([]);
    prefetch.onChange(change([put("checkpoint", "c15", "sd15")]));
    await done();
    expect(packed).toEqual(["early for c15"]);
    prefetch.onChange(change([], ["c15"]));
    await done();
    expect(packed).toEqual(["early for c15"]);
  });

  it("packs content that was replaced again", async () => {
    const { prefetch, done } = make();
    put("checkpoint", "c15", "sd15");
    const id = put("adapter", "a", "sd15");
    const hashed = (sha256: string) =>
      entries.set(id, { ...(entries.get(id) as CatalogEntry), identity: { sha256, proof: "full" } } as CatalogEntry);
    prefetch.onChange(change([id]));
    await done();
    hashed("one");
    prefetch.onChange(change([], [id]));
    hashed("two");
    prefetch.onChange(change([], [id]));
    await done();
    expect(packed).toEqual(["a for c15", "a for c15"]);
  });

  it("obeys the folder's rule, and does nothing with warm = off", async () => {
    options = { ...options, "warm-folder": ["/models/rare=off", "/models/later=idle"] };
    const { prefetch, jobs, done } = make();
    put("checkpoint", "c15", "sd15");
    prefetch.onChange(
      change([
        put("adapter", "never", "sd15", "/models/rare"),
        put("adapter", "later", "sd15", "/models/later"),
        put("adapter", "now", "sd15"),
      ]),
    );
    expect(
      jobs
        .list()
        .map(({ title, urgency }) => `${title} ${urgency}`)
        .sort(),
    ).toEqual(["Prepare later idle", "Prepare now arrival"]);
    await done();
    options = { ...options, warm: "off" };
    prefetch.onChange(change([put("adapter", "more", "sd15")]));
    prefetch.all();
    await done();
    expect(packed).toHaveLength(2);
  });
});
