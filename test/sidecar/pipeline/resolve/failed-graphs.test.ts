import { mkdirSync, mkdtempSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";
import { Failure } from "../../../../sidecar/src/failure/index.ts";
import { createFailedGraphs } from "../../../../sidecar/src/pipeline/resolve/failed-graphs.ts";

const folder = mkdtempSync(join(tmpdir(), "refit-failed-"));
const path = join(folder, "data", "failed-graphs.json");
const packages = join(folder, "site-packages");
mkdirSync(packages);
const python = { python: "/python", paths: [] };
const failure = (lasting: boolean) =>
  new Failure("ENGINE_GRAPH_EXPORT_FAILED", "no such network", { code: "GRAPH_STRUCTURE_UNSUPPORTED", lasting, packages: [packages] });
const known = (version = "1", of = python) => createFailedGraphs(path, version).known("mine", "models", of)?.message ?? null;

it("a failed export is remembered over starts, until packages, Python, sidecar or structure are others", () => {
  expect(known()).toBeNull();
  createFailedGraphs(path, "1").note("mine", "models", python, failure(true));
  expect(known()).toMatch(/^no such network \(known from an earlier attempt/);
  expect(known("2")).toBeNull();
  expect(known("1", { python: "/other", paths: [] })).toBeNull();
  const again = createFailedGraphs(path, "1");
  expect(again.known("other", "models", python)).toBeNull();
  expect(again.known("mine", "table", python)).toBeNull();
  utimesSync(packages, 1, 1);
  expect(known()).toBeNull();
});

it("what may end in another way next time is not remembered, and a list that is damaged costs one attempt", () => {
  const list = createFailedGraphs(path, "1");
  list.note("passing", "models", python, failure(false));
  list.note("passing", "models", python, new Error("killed"));
  expect(list.known("passing", "models", python)).toBeNull();
  list.note("mine", "models", python, failure(true));
  expect(known()).not.toBeNull();
  writeFileSync(path, "{");
  expect(known()).toBeNull();
});
