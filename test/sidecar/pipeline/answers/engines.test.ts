import { expect, it } from "vitest";
import { refitMsSince } from "../../../../sidecar/src/pipeline/answers/engines.ts";
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
const since = (...history: RefitRecord[]) => refitMsSince({ status: { history } as never }, "a", 10);

it("refitMsSince tells what a turn costs again: neither a load, nor an earlier refit, nor another engine's", () => {
  expect(since(record({}))).toBe(35);
  expect(since(record({}), record({ kind: "load" }))).toBe(0);
  expect(since(record({ kind: "recovery" }))).toBe(0);
  expect(since(record({ atMs: 9 }))).toBe(0);
  expect(since(record({ engine: "b" }))).toBe(0);
  expect(since(record({ failure: "REFIT_FAILED" }))).toBe(0);
  expect(since()).toBe(0);
});
