// Every golden case through the command line, as a user would run it: one process, one job a line.

import { spawnSync } from "node:child_process";
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { goldenCases, goldenPath, loadTensors, mismatches } from "../../golden/cases.ts";

const cli = new URL("../../../sidecar/bin/refit-sidecar.mjs", import.meta.url);
const folder = mkdtempSync(join(tmpdir(), "refit-golden-"));
const cases = goldenCases();

interface Result {
  readonly ok: boolean;
  readonly out?: string;
  readonly ignored?: readonly { readonly key: string; readonly reason: string }[];
  readonly error?: { readonly code: string; readonly message: string };
}

function run(mode: "comfyui" | "extended"): readonly Result[] {
  const jobs = cases.map((golden, index) => ({
    base: goldenPath(golden.base),
    adapter: golden.adapters.map(({ file, strength }) => `${goldenPath(file)}:${strength}`),
    out: join(folder, `${mode}-${index}.safetensors`),
    family: golden.family,
    mode,
  }));
  const file = join(folder, `${mode}.jsonl`);
  writeFileSync(file, jobs.map((job) => JSON.stringify(job)).join("\n"));
  const { stdout } = spawnSync(process.execPath, [cli.pathname, "merge", "--jobs", file, "--json"], {
    encoding: "utf8",
    maxBuffer: 1 << 28,
  });
  return stdout
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as Result);
}

describe("merge --jobs on the golden cases, mode comfyui", () => {
  const results = run("comfyui");

  it("answers every job, in order", () => {
    expect(results.length).toBe(cases.length);
  });

  it.each(cases.map((golden, index) => [golden.name, index] as const))("%s equals ComfyUI's result", (_name, index) => {
    const golden = cases[index]!;
    const result = results[index]!;
    expect(mismatches(golden, loadTensors(join(folder, `comfyui-${index}.safetensors`)))).toEqual([]);
    if (golden.touched.length === 0) expect(result).toMatchObject({ ok: false, error: { code: "DELTA_NO_WEIGHT_CHANGES" } });
    // A file that fits nowhere is an error with its likely cause; the checkpoint is still written as ComfyUI would have it.
    if (result.error) expect(golden.changed).toEqual([]);
    // ComfyUI names keys as its whole-file renames left them; we name them as the file does.
    const own = new Set(golden.adapters.flatMap(({ file }) => [...loadTensors(goldenPath(file)).keys()]));
    for (const key of golden.ignored_adapter_keys.filter((name) => own.has(name)))
      expect(result.ignored?.map((entry) => entry.key)).toContain(key);
  });
});
