import { execFile } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, it } from "vitest";
import { demoCheckpoint, demoLora, liveStack, startBench, type Bench } from "../pipeline/harness.ts";

const cli = fileURLToPath(new URL("../../../sidecar/bin/refit-sidecar.mjs", import.meta.url));
const run = (...args: string[]) => promisify(execFile)(process.execPath, [cli, ...args]);
let bench: Bench;

beforeAll(async () => {
  bench = await startBench({
    fill: (place) => {
      place("checkpoints", "private model.safetensors", demoCheckpoint);
      place("live", "my secret style@0.5.safetensors", demoLora("small"));
    },
  });
  writeFileSync(bench.path("loras", "unreadable secret.safetensors"), "no tensors");
  await liveStack(bench, [0.5]);
});
afterAll(() => bench.close());

it("top prints engines, times and work once where the output is no terminal", async () => {
  const { stdout } = await run("top", "--data-dir", bench.dataDir);
  expect(stdout).toMatch(/sd15 fp32 onnxruntime .*LIVE .* 0\.5\n/);
  expect(stdout).toMatch(/refit +\d+ +[\d.]+ +[\d.]+ +[\d.]+\n/);
  expect(stdout).toContain("no work in the background");
  expect(stdout).not.toContain("\u001b");
});

it("a support bundle holds no token, no path and no file name, and never writes over a file", async () => {
  const out = join(bench.folder, "bundle.json");
  await run("bundle", "--data-dir", bench.dataDir, "--out", out);
  const text = readFileSync(out, "utf8");
  const bundle = JSON.parse(text) as {
    readonly catalog: readonly { readonly name: string }[];
    readonly log: readonly unknown[];
    readonly refits: readonly unknown[];
  };
  const discovery = JSON.parse(readFileSync(join(bench.dataDir, "sidecar.json"), "utf8")) as {
    readonly token: string;
    readonly read_token: string;
  };
  for (const secret of [discovery.token, discovery.read_token, bench.folder, "private model", "secret"]) expect(text).not.toContain(secret);
  expect(bundle.catalog.map(({ name }) => name)).toEqual(expect.arrayContaining([expect.stringMatching(/^file-\d+\.safetensors$/)]));
  expect([bundle.log.length > 0, bundle.refits.length > 0]).toEqual([true, true]);
  await expect(run("bundle", "--data-dir", bench.dataDir, "--out", out)).rejects.toMatchObject({ code: 1 });
  expect(readFileSync(out, "utf8")).toBe(text);
});
