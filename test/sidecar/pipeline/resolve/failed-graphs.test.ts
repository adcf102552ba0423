import { mkdirSync, mkdtempSync, readFileSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";
import { Failure } from "../../../../sidecar/src/failure/index.ts";
import { openFailedGraphs } from "../../../../sidecar/src/pipeline/resolve/failed-graphs.ts";

const folder = mkdtempSync(join(tmpdir(), "refit-failed-"));
const path = join(folder, "data", "failed-graphs.json");
const packages = join(folder, "site-packages");
mkdirSync(packages);
const python = { python: "/python", paths: [] };
const failure = (lasting: boolean) =>
  new Failure("ENGINE_GRAPH_EXPORT_FAILED", "no such network", { code: "GRAPH_STRUCTURE_UNSUPPORTED", lasting, packages: [packages] });
const known = async (version = "1", of = python) => (await openFailedGraphs(path, version)).known("mine", "models", of)?.message ?? null;

it("a failed export is remembered over starts, until packages, Python, sidecar or structure are others", async () => {
  expect(await known()).toBeNull();
  const first = await openFailedGraphs(path, "1");
  first.note("mine", "models", python, failure(true));
  await first.idle();
  expect(await known()).toMatch(/^no such network \(known from an earlier attempt/);
  expect(await known("2")).toBeNull();
  expect(await known("1", { python: "/other", paths: [] })).toBeNull();
  const again = await openFailedGraphs(path, "1");
  expect(again.known("other", "models", python)).toBeNull();
  expect(again.known("mine", "table", python)).toBeNull();
  utimesSync(packages, 1, 1);
  expect(await known()).toBeNull();
});

it("what may end in another way next time is not remembered, and a list that is damaged costs one attempt", async () => {
  const list = await openFailedGraphs(path, "1");
  list.note("passing", "models", python, failure(false));
  list.note("passing", "models", python, new Error("killed"));
  expect(list.known("passing", "models", python)).toBeNull();
  list.note("mine", "models", python, failure(true));
  await list.idle();
  expect(await known()).not.toBeNull();
  const whole = readFileSync(path, "utf8");
  for (const damaged of ["{", whole.replace("no such", "no bad")]) {
    writeFileSync(path, damaged);
    expect(await known()).toBeNull();
  }
});
