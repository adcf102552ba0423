// Disks that fail: full, read-only, gone; caches that were damaged; and the clock. Needs Linux and root for small file systems of its own; else says so and skips.

import { execFileSync, spawnSync } from "node:child_process";
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it, onTestFinished } from "vitest";
import { demoCheckpoint, demoLora, idOf, output, prepare, startBench, step, until, type Bench } from "../sidecar/pipeline/harness.ts";
import { record } from "../record.ts";
import { fill, freshOutputs, loraNames, spread, worldOf } from "./support.ts";

let expected: readonly Buffer[] = [];
beforeAll(async () => {
  expected = await freshOutputs();
});

const mounts: string[] = [];
afterAll(() => {
  for (const path of mounts) spawnSync("umount", ["-l", path]);
});
const canMount = process.platform === "linux" && process.getuid?.() === 0;
const noMount = "mounting a file system needs Linux and root";

function mount(path: string, size: string): void {
  mkdirSync(path, { recursive: true, mode: 0o700 });
  execFileSync("mount", ["-t", "tmpfs", "-o", `size=${size},mode=0700`, "none", path]);
  mounts.push(path);
}

const same = async (bench: Bench, index: number): Promise<void> => {
  const world = await worldOf(bench);
  expect(
    Buffer.compare(await output(bench, world.checkpoint, world.stacks[index] ?? []), expected[index] ?? Buffer.alloc(0)),
    `stack ${index}`,
  ).toBe(0);
};

async function allSame(bench: Bench): Promise<void> {
  for (const index of expected.keys()) await same(bench, index);
}

it("a full disk: what is live keeps serving, what needs room says so, and room is all it takes", { timeout: 120_000 }, async ({ skip }) => {
  if (!canMount) skip(noMount);
  const folder = mkdtempSync(join(tmpdir(), "refit-full-"));
  mount(join(folder, "data"), "4m");
  const bench = await startBench({ folder, fill, flags: ["--warm", "off"] });
  onTestFinished(() => bench.close());
  await same(bench, 1);
  const world = await worldOf(bench);
  const filler = openSync(join(folder, "data", "filler"), "w");
  const block = new Uint8Array(4096);
  try {
    for (;;) writeSync(filler, block);
  } catch (error) {
    expect(error).toMatchObject({ code: "ENOSPC" });
  } finally {
    closeSync(filler);
  }
  const failed = await prepare(bench, world.checkpoint, world.stacks[2] ?? []).then(
    () => null,
    (error: unknown) => error,
  );
  expect(failed).toMatchObject({ code: "DELTA_FAILED", evidence: { reason: "DELTA_WRITE_FAILED" } });
  await same(bench, 1);
  rmSync(join(folder, "data", "filler"));
  const freed = performance.now();
  await same(bench, 2);
  const ms = performance.now() - freed;
  await allSame(bench);
  record("disk-full", {
    promise: "A full disk: live weights keep serving, what needs room fails by name, nothing half-written is used",
    figure: `DELTA_WRITE_FAILED while full, 0 wrong outputs; with room again the right output after ${Math.round(ms)} ms`,
    test: "test/faults/disk.e2e.test.ts",
  });
});

it(
  "a disk that becomes read-only: everything that is cached still serves, the rest says so; a start on it is refused with the reason",
  { timeout: 120_000 },
  async ({ skip }) => {
    if (!canMount) skip(noMount);
    const folder = mkdtempSync(join(tmpdir(), "refit-readonly-"));
    const data = join(folder, "data");
    mount(data, "64m");
    const bench = await startBench({ folder, fill, flags: ["--warm", "off"] });
    await same(bench, 1);
    const world = await worldOf(bench);
    execFileSync("mount", ["-o", "remount,ro", data]);
    await same(bench, 1);
    await same(bench, 0);
    const failed = await prepare(bench, world.checkpoint, world.stacks[2] ?? []).then(
      () => null,
      (error: unknown) => error,
    );
    expect(failed).toMatchObject({ code: "DELTA_FAILED", evidence: { reason: "DELTA_WRITE_FAILED" } });
    await bench.close();
    const refused = await startBench({ folder }).then(
      () => null,
      (error: unknown) => String(error),
    );
    expect(refused).toMatch(/EROFS|read-only/i);
    execFileSync("mount", ["-o", "remount,rw", data]);
    const again = await startBench({ folder });
    onTestFinished(() => again.close());
    await allSame(again);
    record("disk-read-only", {
      promise: "A disk that becomes read-only: what is cached serves on, the rest fails by name",
      figure: "0 wrong outputs while read-only and after; a start on it is refused with the reason",
      test: "test/faults/disk.e2e.test.ts",
    });
  },
);

it(
  "a folder that is unmounted under a live stack: the engine keeps serving, and takes the files up again when they are back",
  { timeout: 120_000 },
  async ({ skip }) => {
    if (!canMount) skip(noMount);
    const folder = mkdtempSync(join(tmpdir(), "refit-unmounted-"));
    const loras = join(folder, "loras");
    mount(loras, "16m");
    const put = (): void => {
      for (const name of loraNames) writeFileSync(join(loras, `${name}.safetensors`), readFileSync(demoLora(name)));
    };
    put();
    const bench = await startBench({ folder, fill: (place) => place("checkpoints", "demo.safetensors", demoCheckpoint) });
    onTestFinished(() => bench.close());
    const world = await worldOf(bench);
    const { lease } = await prepare(bench, world.checkpoint, world.stacks[1] ?? []);
    execFileSync("umount", ["-l", loras]);
    expect(Buffer.compare(await step(bench, lease), expected[1] ?? Buffer.alloc(0))).toBe(0);
    await bench.client.call("watch.resume", {});
    expect(Buffer.compare(await step(bench, lease), expected[1] ?? Buffer.alloc(0))).toBe(0);
    mount(loras, "16m");
    put();
    const back = performance.now();
    await bench.client.call("watch.resume", {});
    await until("the files again", async () =>
      (await bench.client.call("catalog.list", { kind: "adapter" })).result.entries.every(({ problem }) => problem === null),
    );
    const ms = performance.now() - back;
    await bench.client.call("engine.release", { lease });
    await allSame(bench);
    record("folder-unmounted", {
      promise: "A folder that is unmounted: leased stacks serve on, its files come back with it",
      figure: `0 wrong outputs; back in the catalog after ${Math.round(ms)} ms`,
      test: "test/faults/disk.e2e.test.ts",
    });
  },
);

/** Every cached file below a data folder. */
function cachedFiles(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    return entry.isDirectory() ? cachedFiles(path) : entry.isFile() && statSync(path).size > 0 ? [path] : [];
  });
}

it(
  "caches that were cut short or had bits flipped while nothing ran are made again; outputs are those of a fresh engine",
  { timeout: 600_000 },
  async () => {
    const first = await startBench({ fill });
    const { folder } = first;
    await allSame(first);
    await first.close();
    let damaged = 0;
    const recoveries: number[] = [];
    for (let round = 0; round < 12; round += 1) {
      for (const path of cachedFiles(join(folder, "data"))) {
        const bytes = readFileSync(path);
        const at = Math.floor(Math.random() * bytes.length);
        if (round % 2 === 0) writeFileSync(path, bytes.subarray(0, at));
        else {
          bytes[at] = (bytes[at] ?? 0) ^ (1 << Math.floor(Math.random() * 8));
          writeFileSync(path, bytes);
        }
        damaged += 1;
      }
      const before = performance.now();
      const bench = await startBench({ folder });
      await same(bench, round % expected.length);
      recoveries.push(performance.now() - before);
      await allSame(bench);
      await bench.close();
    }
    record("caches-damaged", {
      promise: "Damaged caches (cut short, bits flipped) are found and made again",
      figure: `${damaged} files damaged in 12 starts: 0 wrong outputs; from start to the right output ${spread(recoveries)}`,
      test: "test/faults/disk.e2e.test.ts",
    });
  },
);

const shim = `
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
static long offset(void) { long seconds = 0; FILE *file = fopen(getenv("SHIFT_FILE"), "r"); if (file) { if (fscanf(file, "%ld", &seconds) != 1) seconds = 0; fclose(file); } return seconds; }
int clock_gettime(clockid_t id, struct timespec *out) {
  static int (*real)(clockid_t, struct timespec *); if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
  int result = real(id, out); if (result == 0 && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) out->tv_sec += offset(); return result;
}
int gettimeofday(struct timeval *out, void *zone) {
  static int (*real)(struct timeval *, void *); if (!real) real = dlsym(RTLD_NEXT, "gettimeofday");
  int result = real(out, zone); if (result == 0) out->tv_sec += offset(); return result;
}
`;

it("a clock that jumps years ahead and back changes nothing", { timeout: 180_000 }, async ({ skip }) => {
  const scratch = mkdtempSync(join(tmpdir(), "refit-clock-"));
  const library = join(scratch, "shift.so");
  const shift = join(scratch, "seconds");
  writeFileSync(join(scratch, "shift.c"), shim);
  if (process.platform !== "linux" || spawnSync("cc", ["-shared", "-fPIC", "-o", library, join(scratch, "shift.c"), "-ldl"]).status !== 0)
    skip("shifting a process's clock needs Linux and a C compiler");
  writeFileSync(shift, "0");
  const bench = await startBench({ fill, env: { LD_PRELOAD: library, SHIFT_FILE: shift } });
  onTestFinished(() => bench.close());
  await allSame(bench);
  const years = (count: number) => String(Math.round(count * 365.25 * 86_400));
  const world = await worldOf(bench);
  for (const [index, seconds] of [years(10), years(-10), "3600", "-3600", "0"].entries()) {
    const { lease } = await prepare(bench, world.checkpoint, world.stacks[1] ?? []);
    writeFileSync(shift, seconds);
    expect(Buffer.compare(await step(bench, lease), expected[1] ?? Buffer.alloc(0))).toBe(0);
    await bench.client.call("engine.release", { lease });
    await allSame(bench);
    // A file that arrives while the clock is off is taken like any other.
    bench.place("loras", `late ${index}.safetensors`, demoLora("small"));
    const late = await idOf(bench, "adapter", `late ${index}.safetensors`);
    expect((await output(bench, world.checkpoint, [{ adapter: late, strength: 0.7 }])).length).toBeGreaterThan(0);
  }
  record("clock-jumps", {
    promise: "Clock jumps change nothing: leases, turns and settling go by a monotonic clock",
    figure: "jumps of +10 and -10 years and of an hour: 0 wrong outputs, no lease lost, new files taken",
    test: "test/faults/disk.e2e.test.ts",
  });
  expect(existsSync(library)).toBe(true);
});
