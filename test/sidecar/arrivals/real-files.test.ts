// Real folders, real chokidar. Few on purpose: what can be decided by a fake clock is tested there.

import { execFileSync } from "node:child_process";
import { once } from "node:events";
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  closeSync,
  ftruncateSync,
  renameSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
  writeSync,
  fsyncSync,
} from "node:fs";
import { EventEmitter } from "node:events";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { createArrivals } from "../../../sidecar/src/arrivals/index.ts";
import type { Arrivals, ArrivalEvent, GivenArrivalsOptions } from "../../../sidecar/src/arrivals/index.ts";
import { told } from "./fake-world.ts";
import { tensorFile } from "./tensor-file.ts";

let root = "";
let arrivals: Arrivals | null = null;
const posix = process.platform !== "win32";

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "refit-arrivals-"));
});

afterEach(async () => {
  await arrivals?.close();
  arrivals = null;
  rmSync(root, { recursive: true, force: true });
});

async function start(options: Partial<GivenArrivalsOptions> = {}) {
  const folder = join(root, "loras");
  mkdirSync(folder, { recursive: true });
  arrivals = createArrivals({ folders: [{ path: folder, kind: "adapter" }], ...options });
  const events: ArrivalEvent[] = [];
  const bell = new EventEmitter();
  arrivals.subscribe((batch) => {
    events.push(...batch);
    bell.emit("event");
  });
  await arrivals.start();
  /** Waits for an event that fits, without a limit of its own (the test's is enough). */
  const until = async (fits: (event: ArrivalEvent) => boolean): Promise<ArrivalEvent> => {
    for (;;) {
      const found = events.find(fits);
      if (found !== undefined) return found;
      await once(bell, "event");
    }
  };
  const settled = (name: string, times = 1) =>
    until(
      (event) =>
        event.type === "settled" &&
        event.name === name &&
        events.filter((each) => each.type === "settled" && each.name === name).length >= times,
    );
  /** chokidar tells when it is watching by asking for a second scan. */
  const ready = () => until(() => events.filter((event) => event.type === "scanned").length >= 2);
  return { folder, events, until, settled, ready };
}

describe("arrivals on a real disk", () => {
  it("settles a preallocated file that is filled over five seconds only when the last byte is in", { timeout: 30_000 }, async () => {
    const { folder, events, settled, ready } = await start();
    await ready();
    const whole = tensorFile(250_000, 0.5);
    const file = openSync(join(folder, "slow.safetensors"), "w");
    ftruncateSync(file, whole.length);
    const steps = 10;
    let lastWriteMs = 0;
    for (let step = 0; step < steps; step += 1) {
      await pause(500);
      const from = Math.floor((whole.length * step) / steps);
      const to = Math.floor((whole.length * (step + 1)) / steps);
      writeSync(file, whole, from, to - from, from);
      lastWriteMs = performance.now();
      expect(events.filter((event) => event.type === "settled")).toEqual([]);
    }
    closeSync(file);
    const event = await settled("slow.safetensors");
    expect(event.type === "settled" && event.settledAtMs > lastWriteMs).toBe(true);
    expect(events.filter((each) => each.type === "settled")).toHaveLength(1);
  });

  it("settles a file that grows past its header in steps once, at its full length", async () => {
    const { folder, events, settled, ready } = await start();
    await ready();
    const whole = tensorFile(100_000, 0.5);
    const file = openSync(join(folder, "grows.safetensors"), "w");
    for (let step = 0; step < 8; step += 1) {
      writeSync(
        file,
        whole,
        Math.floor((whole.length * step) / 8),
        Math.floor((whole.length * (step + 1)) / 8) - Math.floor((whole.length * step) / 8),
      );
      await pause(60);
    }
    closeSync(file);
    const event = await settled("grows.safetensors");
    expect(event.type === "settled" && event.stamp.sizeBytes).toBe(whole.length);
    expect(told([events])).toEqual(["settled grows.safetensors"]);
  });

  it("hears of a file renamed in, replaced, renamed and deleted, in subfolders made later too", async () => {
    const { folder, settled, until, ready } = await start();
    await ready();
    const part = join(root, "part");
    const place = (target: string, value: number) => {
      const file = openSync(part, "w");
      writeSync(file, tensorFile(64, value));
      fsyncSync(file);
      closeSync(file);
      renameSync(part, target);
    };
    place(join(folder, "a b ünï.safetensors"), 1);
    await settled("a b ünï.safetensors");
    place(join(folder, "a b ünï.safetensors"), 2);
    await settled("a b ünï.safetensors", 2);
    renameSync(join(folder, "a b ünï.safetensors"), join(folder, "b.safetensors"));
    const renamed = await settled("b.safetensors");
    expect(renamed.type === "settled" && renamed.renamedFrom?.name).toBe("a b ünï.safetensors");
    mkdirSync(join(folder, "sub", "deeper"), { recursive: true });
    place(join(folder, "sub", "deeper", "c.safetensors"), 3);
    await settled("sub/deeper/c.safetensors");
    unlinkSync(join(folder, "b.safetensors"));
    await until((event) => event.type === "gone" && event.name === "b.safetensors");
  });

  it("hears of files that go with their folder", async ({ skip }) => {
    if (process.env["REFIT_TEST_WINE"] !== undefined)
      skip("Wine keeps the name of a watched folder until the watch is closed (tools/windows/limits)");
    const { folder, settled, until, ready } = await start();
    await ready();
    mkdirSync(join(folder, "sub", "deeper"), { recursive: true });
    writeFileSync(join(folder, "sub", "deeper", "c.safetensors"), tensorFile(16));
    await settled("sub/deeper/c.safetensors");
    rmSync(join(folder, "sub"), { recursive: true });
    await until((event) => event.type === "gone" && event.name === "sub/deeper/c.safetensors");
  });

  it("follows links to files and folders, also when the target changes; refuses links to devices and to nothing", async ({ skip }) => {
    if (!posix) skip("links need a privilege on Windows");
    const elsewhere = join(root, "elsewhere");
    mkdirSync(elsewhere);
    writeFileSync(join(elsewhere, "t.safetensors"), tensorFile(16));
    const { folder, settled, until, ready } = await start();
    await ready();
    symlinkSync(join(elsewhere, "t.safetensors"), join(folder, "link.safetensors"));
    symlinkSync(elsewhere, join(folder, "linked"));
    symlinkSync(folder, join(folder, "circle"));
    symlinkSync("/dev/zero", join(folder, "zero.safetensors"));
    symlinkSync(join(root, "nothing"), join(folder, "nothing.safetensors"));
    await settled("link.safetensors");
    await settled("linked/t.safetensors");
    for (const name of ["zero.safetensors", "nothing.safetensors"]) {
      const refusal = await until((event) => event.type === "refused" && event.name === name);
      expect(refusal.type === "refused" && refusal.code).toBe("ARRIVALS_NOT_A_REGULAR_FILE");
    }
    await pause(300);
    writeFileSync(join(elsewhere, "t.safetensors"), tensorFile(32, 2));
    await settled("link.safetensors", 2);
  });

  it("is not stopped by a pipe with a model's name", async ({ skip }) => {
    if (!posix) skip("named pipes of this kind exist on POSIX only");
    const { folder, until, settled, ready } = await start();
    await ready();
    execFileSync("mkfifo", [join(folder, "pipe.safetensors")]);
    const refusal = await until((event) => event.type === "refused");
    expect(refusal.type === "refused" && refusal.code).toBe("ARRIVALS_NOT_A_REGULAR_FILE");
    writeFileSync(join(folder, "next.safetensors"), tensorFile(16));
    await settled("next.safetensors");
  });

  it("waits for a download helper's control file to go", async () => {
    const { folder, events, settled, ready } = await start({ quietMs: 20 });
    await ready();
    writeFileSync(join(folder, "d.safetensors.aria2"), "x");
    writeFileSync(join(folder, "d.safetensors"), tensorFile(16));
    await pause(400);
    expect(told([events])).toEqual([]);
    unlinkSync(join(folder, "d.safetensors.aria2"));
    await settled("d.safetensors");
  });

  it("works by polling alone", async () => {
    const { folder, settled, until } = await start({ poll: true, pollMs: 50 });
    writeFileSync(join(folder, "p.safetensors"), tensorFile(16));
    await settled("p.safetensors");
    copyFileSync(join(folder, "p.safetensors"), join(folder, "q.safetensors"));
    await settled("q.safetensors");
    unlinkSync(join(folder, "p.safetensors"));
    await until((event) => event.type === "gone" && event.name === "p.safetensors");
  });

  it("reports a folder that is not there, and its files when it comes", async () => {
    const folder = join(root, "loras");
    const { until, settled, events } = await start({
      folders: [{ path: join(root, "later"), kind: "adapter" }],
      poll: false,
      pollMs: 50,
      rescanMs: 50,
    });
    expect(events.map((event) => event.type)).toEqual(["lost"]);
    renameSync(folder, join(root, "later"));
    writeFileSync(join(root, "later", "x.safetensors"), tensorFile(16));
    await until((event) => event.type === "scanned");
    await settled("x.safetensors");
  });
});
