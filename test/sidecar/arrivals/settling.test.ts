import { afterEach, describe, expect, it } from "vitest";
import { createArrivals } from "../../../sidecar/src/arrivals/index.ts";
import type { Arrivals, ArrivalEvent } from "../../../sidecar/src/arrivals/index.ts";
import { createFakeClock, createFakeDisk, partial, told, whole } from "./fake-world.ts";

const root = "/models/loras";
const file = `${root}/a.safetensors`;
const open: Arrivals[] = [];

async function world(
  options: {
    foldsCase?: boolean;
    platform?: NodeJS.Platform;
    poll?: boolean;
    before?: (disk: ReturnType<typeof createFakeDisk>) => void;
  } = {},
) {
  const clock = createFakeClock();
  const disk = createFakeDisk(clock, root, options.foldsCase ?? false);
  options.before?.(disk);
  const batches: (readonly ArrivalEvent[])[] = [];
  const arrivals = createArrivals({
    folders: [{ path: root, kind: "adapter" }],
    clock,
    files: disk,
    startWatch: disk.startWatch,
    platform: options.platform ?? "linux",
    poll: options.poll ?? false,
  });
  open.push(arrivals);
  arrivals.subscribe((batch) => batches.push(batch));
  await arrivals.start();
  return { clock, disk, arrivals, batches, heard: () => told(batches) };
}

afterEach(async () => {
  await Promise.all(open.splice(0).map((arrivals) => arrivals.close()));
});

describe("a file counts as settled", () => {
  it("after a quiet window when it was written in place", async () => {
    const { clock, disk, batches, heard } = await world();
    disk.write(file, 1000, whole());
    await clock.advance(90);
    expect(heard()).toEqual([]);
    await clock.advance(60);
    expect(heard()).toEqual(["settled a.safetensors"]);
    const event = batches.flat().find((candidate) => candidate.type === "settled");
    expect(event?.type === "settled" && event.settledAtMs - event.arrivedAtMs).toBeGreaterThanOrEqual(100);
  });

  it("at once when it was renamed into place: its change time is later than its modification time", async () => {
    const { clock, disk, heard } = await world();
    disk.write(file, 1000, whole(), 5);
    await clock.advance(0);
    expect(heard()).toEqual(["settled a.safetensors"]);
  });

  it("at once on Windows too when its inode was seen under a temporary name before", async () => {
    const { clock, disk, heard } = await world({ platform: "win32" });
    disk.write(`${root}/a.safetensors.part`, 1000, whole());
    await clock.advance(5);
    disk.rename(`${root}/a.safetensors.part`, file);
    await clock.advance(0);
    expect(heard()).toEqual(["settled a.safetensors"]);
  });

  it("not at once on Windows by change time, which a different clock keeps there", async () => {
    const { clock, disk, heard } = await world({ platform: "win32" });
    disk.write(file, 1000, whole(), 5);
    await clock.advance(50);
    expect(heard()).toEqual([]);
    await clock.advance(150);
    expect(heard()).toEqual(["settled a.safetensors"]);
  });

  it("only when its length is the header's, however slowly it grows", async () => {
    const { clock, disk, heard } = await world();
    for (let size = 100; size < 1000; size += 100) {
      disk.write(file, size, partial(1000));
      await clock.advance(900);
    }
    expect(heard()).toEqual([]);
    disk.write(file, 1000, whole());
    await clock.advance(4000);
    expect(heard()).toEqual(["settled a.safetensors"]);
  });

  it("not in a pause of a writer that filled a preallocated file, and once when the last write is quiet", async () => {
    const { clock, disk, heard } = await world();
    disk.write(file, 1000, partial());
    for (let step = 0; step < 10; step += 1) {
      await clock.advance(500);
      disk.write(file, 1000, whole("a", step === 9));
    }
    expect(heard()).toEqual([]);
    await clock.advance(3000);
    expect(heard()).toEqual(["settled a.safetensors"]);
  });

  it("not while its header still changes under an unmoved stamp", async () => {
    const { clock, disk, heard } = await world();
    disk.write(file, 1000, whole("a"));
    const stampKept = await disk.look(file);
    await clock.advance(60);
    disk.write(file, 1000, whole("b"));
    const node = await disk.look(file);
    if (node.is === "file" && stampKept.is === "file") Object.assign(node.stamp, stampKept.stamp);
    await clock.advance(90);
    expect(heard()).toEqual([]);
    await clock.advance(200);
    expect(heard()).toEqual(["settled a.safetensors"]);
  });

  it("after a longer window where the file system keeps whole seconds only", async () => {
    const { clock, disk, heard } = await world();
    disk.write(file, 1000, whole());
    const look = await disk.look(file);
    if (look.is === "file") Object.assign(look.stamp, { mtimeNs: 1_793_000_000_000_000_000n, ctimeNs: 1_793_000_000_000_000_000n });
    await clock.advance(1000);
    expect(heard()).toEqual([]);
    await clock.advance(1500);
    expect(heard()).toEqual(["settled a.safetensors"]);
  });

  it("without a look inside when a scan finds it old; a modification time in the future is not old", async () => {
    const { clock, disk, heard } = await world({
      before: (before) => {
        before.write(file, 1000, whole(), 60_000);
        before.write(`${root}/future.safetensors`, 1000, whole(), -3_600_000);
      },
    });
    expect(heard()).toEqual(["settled a.safetensors"]);
    expect(disk.marks()).toBe(1);
    await clock.advance(300);
    expect(heard()).toEqual(["settled a.safetensors", "settled future.safetensors"]);
  });
});

describe("after it has settled", () => {
  it("a rewrite in place is reported at once and settles again", async () => {
    const { clock, disk, heard } = await world();
    disk.write(file, 1000, whole(), 5);
    await clock.advance(500);
    disk.write(file, 1000, whole("b"));
    await clock.advance(20);
    expect(heard()).toEqual(["settled a.safetensors", "changed a.safetensors"]);
    await clock.advance(300);
    expect(heard().slice(2)).toEqual(["settled a.safetensors"]);
  });

  it("an atomic replacement settles at once, without a gap", async () => {
    const { clock, disk, heard } = await world();
    disk.write(file, 1000, whole(), 5);
    await clock.advance(500);
    disk.write(`${root}/tmp`, 900, whole("b"));
    await clock.advance(30);
    disk.rename(`${root}/tmp`, file);
    await clock.advance(0);
    expect(heard()).toEqual(["settled a.safetensors", "settled a.safetensors"]);
  });

  it("a rename is one batch of gone and settled", async () => {
    const { clock, disk, batches } = await world();
    disk.write(file, 1000, whole(), 5);
    await clock.advance(500);
    disk.rename(file, `${root}/b@0.5.safetensors`);
    await clock.advance(1000);
    expect(batches.map((batch) => told([batch])).filter((texts) => texts.length > 0)).toEqual([
      ["settled a.safetensors"],
      ["gone a.safetensors", "settled b@0.5.safetensors from a.safetensors"],
    ]);
  });

  it("a case-only rename on a disk that ignores case is a rename", async () => {
    const { clock, disk, heard } = await world({ foldsCase: true, platform: "darwin" });
    disk.write(file, 1000, whole(), 5);
    await clock.advance(500);
    disk.rename(file, `${root}/A.safetensors`);
    await clock.advance(1000);
    expect(heard()).toEqual(["settled a.safetensors", "gone a.safetensors", "settled A.safetensors from a.safetensors"]);
  });

  it("a new file that was given the inode of a deleted one is not taken for it, even with equal size and modification time", async () => {
    const { clock, disk, heard } = await world();
    disk.write(file, 1000, whole(), 5);
    await clock.advance(500);
    const old = await disk.look(file);
    disk.write(`${root}/b.safetensors`, 1000, whole("b"));
    disk.remove(file);
    const fresh = await disk.look(`${root}/b.safetensors`);
    if (old.is === "file" && fresh.is === "file") Object.assign(fresh.stamp, { ...old.stamp, bornNs: old.stamp.bornNs + 1n });
    await clock.advance(1000);
    expect(heard()).toEqual(["settled a.safetensors", "settled b.safetensors", "gone a.safetensors"]);
  });

  it("a hard link settles at once and the old name stays", async () => {
    const { clock, disk, heard } = await world();
    disk.write(file, 1000, whole(), 5);
    await clock.advance(500);
    disk.link(file, `${root}/b.safetensors`);
    await clock.advance(1000);
    expect(heard()).toEqual(["settled a.safetensors", "settled b.safetensors"]);
  });

  it("a deletion is reported after a grace that lets unlink-then-rename pass as a change", async () => {
    const { clock, disk, heard } = await world();
    disk.write(file, 1000, whole(), 5);
    await clock.advance(500);
    disk.remove(file);
    await clock.advance(60);
    disk.write(file, 900, whole("b"), 5);
    await clock.advance(500);
    expect(heard()).toEqual(["settled a.safetensors", "settled a.safetensors"]);
    disk.remove(file);
    await clock.advance(60);
    expect(heard()).toHaveLength(2);
    await clock.advance(100);
    expect(heard().slice(2)).toEqual(["gone a.safetensors"]);
  });

  it("an attribute change alone settles again without calling the file changed", async () => {
    const { clock, disk, heard } = await world();
    disk.write(file, 1000, whole(), 5);
    await clock.advance(500);
    disk.chmod(file);
    await clock.advance(500);
    expect(heard()).toEqual(["settled a.safetensors", "settled a.safetensors"]);
  });
});

describe("the wall clock", () => {
  it("may jump either way while a file is written", async () => {
    const { clock, disk, heard } = await world();
    disk.write(file, 1000, whole());
    await clock.advance(30);
    clock.jumpWall(3_600_000);
    disk.write(file, 1000, whole());
    await clock.advance(30);
    clock.jumpWall(-7_200_000);
    disk.write(file, 1000, whole());
    await clock.advance(80);
    expect(heard()).toEqual([]);
    await clock.advance(400);
    expect(heard()).toEqual(["settled a.safetensors"]);
  });
});
