// `state export|import` between two sidecars that keep the same files under other names.

import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, describe, expect, it } from "vitest";
import { demoCheckpoint, demoLora, idOf, output, startBench, statusOf, type Bench } from "../pipeline/harness.ts";

const cli = fileURLToPath(new URL("../../../sidecar/bin/refit-sidecar.mjs", import.meta.url));
const run = (...args: string[]) =>
  new Promise<{ status: number; out: string; err: string }>((resolve) => {
    execFile(process.execPath, [cli, "state", ...args], (error, out, err) =>
      resolve({ status: error === null ? 0 : Number(error.code), out, err }),
    );
  });

const benches: Bench[] = [];
afterEach(async () => {
  for (const bench of benches.splice(0)) await bench.close();
});
async function bench(fill: (place: Bench["place"]) => void): Promise<Bench> {
  const made = await startBench({ fill });
  benches.push(made);
  return made;
}

const file = join(mkdtempSync(join(tmpdir(), "refit-state-")), "state.json");

describe("refit-sidecar state", () => {
  it(
    "carries engines' stacks and recent ones to a sidecar with other folders, by content, and says what is missing",
    { timeout: 120_000 },
    async () => {
      const first = await bench((place) => {
        place("checkpoints", "demo.safetensors", demoCheckpoint);
        place("loras", "sevens.safetensors", demoLora("only-sevens"));
        place("loras", "thick.safetensors", demoLora("thick-strokes"));
      });
      const checkpoint = await idOf(first, "checkpoint", "demo.safetensors");
      const [sevens, thick] = [await idOf(first, "adapter", "sevens.safetensors"), await idOf(first, "adapter", "thick.safetensors")];
      await output(first, checkpoint, [{ adapter: thick, strength: 0.5 }]);
      const wanted = await output(first, checkpoint, [{ adapter: sevens, strength: 0.8 }]);
      const exported = await run("export", file, "--data-dir", first.dataDir, "--json");
      expect(JSON.parse(exported.out)).toMatchObject({ ok: true });
      expect(readFileSync(file, "utf8")).not.toContain(first.folder);

      const second = await bench((place) => {
        place("checkpoints", "renamed model.safetensors", demoCheckpoint);
        place("loras", "deep-sevens.safetensors", demoLora("only-sevens"));
      });
      await idOf(second, "checkpoint", "renamed model.safetensors");
      // Names differ, so only content can tell which file is meant.
      for (const name of ["renamed model.safetensors", "deep-sevens.safetensors"]) {
        const kind = name.startsWith("deep") ? "adapter" : "checkpoint";
        const id = await idOf(second, kind, name);
        await expect
          .poll(async () => (await second.client.call("catalog.get", { id })).result.entry.sha256, { timeout: 30_000 })
          .not.toBeNull();
      }
      const imported = await run("import", file, "--data-dir", second.dataDir, "--json");
      expect(imported.status).toBe(1);
      const rows = (JSON.parse(imported.out) as { stacks: { ok: boolean; problem: string | null }[] }).stacks;
      expect(rows.filter(({ ok }) => !ok).map(({ problem }) => problem)).toEqual([expect.stringContaining("thick.safetensors")]);
      const [engine] = (await statusOf(second)).engines;
      expect(engine).toMatchObject({ state: "LIVE", weights: { stack: [{ strength: 0.8 }] } });
      const here = await idOf(second, "adapter", "deep-sevens.safetensors");
      expect(
        await output(second, await idOf(second, "checkpoint", "renamed model.safetensors"), [{ adapter: here, strength: 0.8 }]),
      ).toEqual(wanted);
    },
  );

  it("refuses what is no exported state, and a data folder on which nothing runs", async () => {
    const bad = join(mkdtempSync(join(tmpdir(), "refit-state-")), "bad.json");
    const lone = await bench(() => undefined);
    for (const content of [
      "{",
      "{}",
      '{"format":"refit-sidecar state","version":2}',
      '{"format":"refit-sidecar state","version":1,"sidecar":"","createdAt":"","stacks":[{}],"pinned":[]}',
    ]) {
      writeFileSync(bad, content);
      const { status, err } = await run("import", bad, "--data-dir", lone.dataDir);
      expect(status).toBe(2);
      expect(err).toContain("[CLI_STATE_FILE]");
    }
    const { status, err } = await run("export", file, "--data-dir", join(lone.folder, "nowhere"));
    expect(status).toBe(1);
    expect(err).toContain("[CLIENT_NOT_RUNNING]");
  });
});
