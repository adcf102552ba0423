import { execFile } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, it } from "vitest";
import type { WireResult } from "@refit-sidecar/protocol";
import { deviceFinding } from "../../../sidecar/src/cli/doctor/running.ts";
import { topLines } from "../../../sidecar/src/cli/top.ts";
import { demoCheckpoint, demoLora, liveStack, startBench, statusOf, type Bench } from "../pipeline/harness.ts";

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
  expect(stdout).toMatch(/\nDEVICE .*\nauto +up .* 1 /);
  expect(stdout).toContain("no work in the background");
  expect(stdout).not.toContain("\u001b");
});

const ownWords = "no word from the actor for 15 s";
async function lostDevice(): Promise<WireResult<"status">> {
  const status = await statusOf(bench);
  return { ...status, devices: status.devices.map((device) => ({ ...device, name: "ray:0", state: "down", problem: ownWords })) };
}

it("top says why a device is down", async () => {
  const lines = topLines({ status: await lostDevice(), work: (await bench.client.call("jobs.list", {})).result, figures: [] });
  const at = lines.findIndex((line) => /^ray:0 +down /.test(line));
  expect(lines[at + 1]?.trim()).toBe(ownWords);
});

it("doctor shows the devices of the sidecar that runs on the data folder, and fails for one that is down", async () => {
  const { findings } = JSON.parse((await run("doctor", "--json", "--data-dir", bench.dataDir)).stdout) as {
    findings: { name: string; ok: boolean; found: string }[];
  };
  const own = findings.find(({ name }) => name === "device auto of the running sidecar");
  expect(own).toMatchObject({ ok: true, found: expect.stringMatching(/^up, .*, 1 engines of \d+ MiB, /) as string });
  for (const device of (await lostDevice()).devices)
    expect(deviceFinding(device)).toMatchObject({ ok: false, optional: false, remedy: expect.stringContaining(ownWords) as string });
});

it("metrics count the engines of a device by how they step", async () => {
  const { url, read_token: token } = JSON.parse(readFileSync(join(bench.dataDir, "sidecar.json"), "utf8")) as Record<string, string>;
  const text = await (await fetch(`${url}/metrics`, { headers: { authorization: `Bearer ${token}` } })).text();
  expect(text).toMatch(/\nrefit_device_engines\{device="auto",tier="[a-z-]+"\} 1\n/);
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
