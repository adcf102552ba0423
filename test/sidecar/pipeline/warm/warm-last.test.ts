import { describe, expect, it } from "vitest";
import { createWarmLast } from "../../../../sidecar/src/pipeline/warm/warm-last.ts";
import type { LeaseRequest } from "../../../../sidecar/src/pipeline/open-lease.ts";

const request = (adapter: string): LeaseRequest => ({
  checkpoint: "c",
  stack: [{ adapter, strength: 1 }],
  mode: "comfyui",
  precision: "auto",
  host: "auto",
  residuals: false,
});
const [old, newer] = [request("old"), request("newer")];

function bench() {
  const files = new Set<string>();
  const warmed: string[] = [];
  const titles: string[] = [];
  let used = false;
  const quiet = () => undefined;
  const last = createWarmLast({
    known: ({ stack }) => stack.every(({ adapter }) => files.has(adapter)),
    jobs: {
      submit: (spec: { title: string; run: (context: { signal: AbortSignal }) => Promise<unknown> }) => (
        titles.push(spec.title),
        { id: "job", result: spec.run({ signal: new AbortController().signal }) }
      ),
    } as never,
    log: { debug: quiet, info: quiet, warn: quiet, error: quiet } as never,
    warm: async ({ stack }) => void warmed.push(stack[0]?.adapter ?? ""),
    inUse: () => used,
  });
  return { last, warmed, titles, arrive: (name: string) => (files.add(name), last.onChange()), use: () => void (used = true) };
}

describe("warming the last used stacks after a start", () => {
  it("warms at once what is there, the newest last", () => {
    const { last, warmed, titles, arrive } = bench();
    arrive("old");
    arrive("newer");
    last.start([old, newer]);
    expect(warmed).toEqual(["old", "newer"]);
    expect(titles).toEqual(["Warm a stack used before", "Warm the last used stack"]);
  });

  it("waits for files that settle later", () => {
    const { last, warmed, arrive } = bench();
    last.start([newer]);
    expect(warmed).toEqual([]);
    arrive("other");
    expect(warmed).toEqual([]);
    arrive("newer");
    arrive("more");
    expect(warmed).toEqual(["newer"]);
  });

  it("does not take the engine from a newer stack for an older one whose files came later", () => {
    const { last, warmed, arrive } = bench();
    last.start([old, newer]);
    arrive("newer");
    arrive("old");
    expect(warmed).toEqual(["newer"]);
  });

  it("gives up once somebody uses an engine", () => {
    const { last, warmed, arrive, use } = bench();
    last.start([newer]);
    use();
    arrive("newer");
    expect(warmed).toEqual([]);
  });
});
