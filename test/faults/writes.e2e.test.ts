// kill -9 at every single write, sync, rename and removal in the data folder and in the engine store, by what is preloaded: a library on Linux with a C compiler, elsewhere a script around Node's own calls.
// REFIT_KILL_STRIDE=N tries each N-th point alone, where a start takes long (Wine).

import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";
import { openStore } from "../../sidecar/src/store/index.ts";
import { output, startBench, type Bench } from "../sidecar/pipeline/harness.ts";
import { record } from "../record.ts";
import { fill, freshOutputs, sorted, spread, worldOf } from "./support.ts";

const scratch = mkdtempSync(join(tmpdir(), "refit-writes-"));
const library = join(scratch, "kill.so");
const built =
  process.platform === "linux" &&
  spawnSync("cc", ["-shared", "-fPIC", "-O1", "-w", "-o", library, fileURLToPath(new URL("kill-shim.c", import.meta.url)), "-ldl"])
    .status === 0;
const stride = Number(process.env["REFIT_KILL_STRIDE"] ?? 1);
const preload = new URL("kill-preload.mjs", import.meta.url).href;
const countFile = join(scratch, "count");
const environment = (folder: string, at: number) => ({
  ...(built ? { LD_PRELOAD: library } : { NODE_OPTIONS: `${process.env["NODE_OPTIONS"] ?? ""} --import ${preload}` }),
  REFIT_KILL_DIR: folder,
  REFIT_KILL_AT: String(at),
  REFIT_KILL_COUNT: countFile,
});
const counted = () => (existsSync(countFile) ? readFileSync(countFile).length : 0);
const dead = (bench: Bench) =>
  new Promise<void>((resolve) =>
    bench.child.signalCode === null && bench.child.exitCode === null ? bench.child.once("exit", () => resolve()) : resolve(),
  );

/** A life of a sidecar: a start, two stacks, an end. Resolves to false when it was killed. */
async function life(folder: string, at: number): Promise<boolean> {
  rmSync(countFile, { force: true });
  let bench: Bench;
  try {
    bench = await startBench({ folder, fill, flags: ["--warm", "off", "--spare-host", "off"], env: environment(join(folder, "data"), at) });
  } catch {
    return false;
  }
  try {
    const world = await worldOf(bench);
    for (const index of [1, 2]) await output(bench, world.checkpoint, world.stacks[index] ?? []);
    await bench.close();
  } catch {
    await dead(bench);
    return false;
  }
  // A process that Windows ends has an exit code, and no signal.
  return bench.child.exitCode === 0;
}

it(
  "a sidecar that is killed at any one of its writes leaves a data folder on which the next computes the right bits",
  { timeout: 3_600_000 },
  async () => {
    const expected = await freshOutputs();
    const recoveries: number[] = [];
    let points = 0;
    for (let at = 1, ended = false; !ended; at += stride) {
      const folder = mkdtempSync(join(tmpdir(), "refit-write-"));
      ended = await life(folder, at);
      if (ended) {
        // It did all of its writes: every one of them has had its turn.
        expect(counted()).toBeLessThan(at);
        points = counted();
      }
      const before = performance.now();
      const bench = await startBench({ folder, flags: ["--warm", "off", "--spare-host", "off"] });
      const world = await worldOf(bench);
      const index = at % expected.length;
      expect(
        Buffer.compare(await output(bench, world.checkpoint, world.stacks[index] ?? []), expected[index] ?? Buffer.alloc(0)),
        `write ${at}`,
      ).toBe(0);
      recoveries.push(performance.now() - before);
      expect(
        Buffer.compare(await output(bench, world.checkpoint, world.stacks[2] ?? []), expected[2] ?? Buffer.alloc(0)),
        `write ${at}`,
      ).toBe(0);
      await bench.close();
      rmSync(folder, { recursive: true, force: true });
    }
    expect(points).toBeGreaterThan(20);
    if (stride > 1) return console.log(`each ${stride}. of ${points} points: 0 lost files, 0 wrong outputs; ${spread(recoveries)}`);
    record("killed-at-writes", {
      promise:
        "kill -9 at every single write of a sidecar's life (half of the bytes written), at every sync, rename and removal: nothing is lost",
      figure: `${points} points of a life with two stacks: 0 lost files, 0 wrong outputs; from start to the right output ${spread(recoveries)}`,
      test: "test/faults/writes.e2e.test.ts",
    });
  },
);

it(
  "an engine store whose writer is killed at any one of its writes holds the old engine, the new one or none, and never half of one",
  { timeout: 600_000 },
  async () => {
    const key = {
      structure: "a",
      precision: "fp16",
      profile: "any",
      host: "torch",
      library: "torch 2.11",
      capability: "sm90",
      driverBranch: "580",
    };
    const finger = { libraryVersion: "1", driver: "", device: "" };
    const script = `
    import { writeFile } from "node:fs/promises"; import { join } from "node:path";
    const { openStore } = await import(${JSON.stringify(new URL("../../sidecar/dist/src/store/index.js", import.meta.url).href)});
    const store = await openStore({ folder: process.argv[1], writable: true, maxBytes: 1e9 });
    for (const structure of ["a", "b"]) {
      const staging = await store.stage();
      await writeFile(join(staging.folder, "engine.bin"), Buffer.alloc(100000, 7));
      await staging.publish({ ...${JSON.stringify(key)}, structure }, ${JSON.stringify(finger)});
    }
    await store.pin((await store.list())[0].entry, true);
    await store.prune(0);
    await store.remove((await store.list())[0].entry);`;
    const states = new Set<number>();
    for (let at = 1; ; at += 1) {
      const folder = mkdtempSync(join(tmpdir(), "refit-store-"));
      rmSync(countFile, { force: true });
      const child = spawn(process.execPath, ["--input-type=module", "-e", script, folder], {
        stdio: ["ignore", "ignore", "inherit"],
        env: { ...process.env, ...environment(folder, at) },
      });
      const code = await new Promise((resolve) => child.once("exit", resolve));
      const store = await openStore({ folder, writable: true, maxBytes: 1e9 });
      const entries = await store.list();
      for (const { entry } of entries) expect(await store.verify(entry), `write ${at}`).toBeNull();
      states.add(entries.length);
      rmSync(folder, { recursive: true, force: true });
      if (code !== 0) {
        // It died at its point, and not of itself.
        expect(counted()).toBeGreaterThanOrEqual(at);
        continue;
      }
      // Windows syncs no folders, so that there are fewer.
      expect(at).toBeGreaterThan(process.platform === "win32" ? 15 : 20);
      expect(sorted([...states])).toEqual([0, 1, 2]);
      record("store-killed", {
        promise: "kill -9 at every write, sync, rename and removal of the engine store: an engine is whole or absent",
        figure: `${at - 1} points in two publications, a pin, a pruning and a removal: 0 damaged engines (the Python hosts' writer: test/python/hosts/refit_host/test_engine_store.py)`,
        test: "test/faults/writes.e2e.test.ts",
      });
      return;
    }
  },
);
