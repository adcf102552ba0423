import { expect, it } from "vitest";
import { changeSince } from "../../../../sidecar/src/pipeline/answers/engines.ts";
import type { RefitRecord } from "../../../../sidecar/src/refit/index.ts";

const record = (own: Partial<RefitRecord>): RefitRecord => ({
  engine: "a",
  atMs: 10,
  kind: "refit",
  full: false,
  writes: 1,
  bytesRead: 0,
  bytesWritten: 0,
  prepareMs: 30,
  commitMs: 5,
  mode: null,
  failure: null,
  ...own,
});
const since = (...history: RefitRecord[]) => changeSince({ status: { history } as never }, "a", 10);

it("changeSince finds the engine's last change: neither a failed one, nor an earlier one, nor another engine's", () => {
  const [refit, load] = [record({}), record({ kind: "load", atMs: 11 })];
  expect(since(refit)).toBe(refit);
  expect(since(refit, load, record({ engine: "b" }), record({ failure: "REFIT_FAILED" }))).toBe(load);
  expect(since(record({ atMs: 9 }))).toBe(null);
  expect(since()).toBe(null);
});
