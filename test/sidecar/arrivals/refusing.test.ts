import { resolve } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { createArrivals } from "../../../sidecar/src/arrivals/index.ts";
import type { Arrivals, ArrivalEvent } from "../../../sidecar/src/arrivals/index.ts";
import { createFakeClock, createFakeDisk, partial, told, whole } from "./fake-world.ts";

const root = "/models/loras";
const file = `${root}/a.safetensors`;
const open: Arrivals[] = [];

async function world(before?: (disk: ReturnType<typeof createFakeDisk>) => void) {
  const clock = createFakeClock();
  const disk = createFakeDisk(clock, root);
  before?.(disk);
  const batches: (readonly ArrivalEvent[])[] = [];
  const arrivals = createArrivals({
    folders: [{ path: root, kind: "adapter" }],
    clock,
    files: disk,
    startWatch: disk.startWatch,
    platform: "linux",
  });
  open.push(arrivals);
  arrivals.subscribe((batch) => batches.push(batch));
  await arrivals.start();
  return { clock, disk, arrivals, batches, heard: () => told(batches) };
}

afterEach(async () => {
  await Promise.all(open.splice(0).map((arrivals) => arrivals.close()));
});

describe("a file is refused", () => {
  it("ARRIVALS_INCOMPLETE when it stopped growing before its header's length, and settles if it goes on later", async () => {
    const { clock, disk, batches, heard } = await world();
    disk.write(file, 400, partial(1000));
    await clock.advance(9000);
    expect(heard()).toEqual([]);
    await clock.advance(2000);
    expect(heard()).toEqual(["refused a.safetensors ARRIVALS_INCOMPLETE"]);
    const refusal = batches.flat().find((event) => event.type === "refused");
    expect(refusal?.type === "refused" ? refusal.message : "").toContain("1000 bytes, as the header says; the file has 400 bytes");
    disk.write(file, 1000, whole());
    await clock.advance(5000);
    expect(heard().slice(1)).toEqual(["settled a.safetensors"]);
  });

  it("ARRIVALS_NOT_SAFETENSORS when its first bytes can never be a header", async () => {
    const { clock, disk, heard } = await world();
    disk.write(file, 400, { state: "foreign" });
    await clock.advance(3000);
    expect(heard()).toEqual(["refused a.safetensors ARRIVALS_NOT_SAFETENSORS"]);
  });

  it("ARRIVALS_UNREADABLE when it stays locked, and is tried again by the next scan", async () => {
    const { clock, disk, arrivals, heard } = await world();
    disk.write(file, 400, { state: "unreadable", code: "EBUSY" });
    await clock.advance(12_000);
    expect(heard()).toEqual(["refused a.safetensors ARRIVALS_UNREADABLE"]);
    disk.chmod(file);
    const look = await disk.look(file);
    disk.write(file, 400, whole());
    const now = await disk.look(file);
    if (look.is === "file" && now.is === "file") Object.assign(now.stamp, look.stamp);
    const rescan = arrivals.rescan();
    await clock.advance(15_000);
    await rescan;
    expect(heard().slice(1)).toEqual(["settled a.safetensors"]);
  });

  it("ARRIVALS_NOT_A_REGULAR_FILE when it is a device, and is forgotten when that goes", async () => {
    const { clock, disk, heard } = await world();
    disk.special(file, "a device");
    await clock.advance(100);
    disk.remove(file);
    await clock.advance(500);
    expect(heard()).toEqual(["refused a.safetensors ARRIVALS_NOT_A_REGULAR_FILE", "gone a.safetensors"]);
  });

  it("ARRIVALS_UNSUPPORTED_FORMAT by its name alone, once however often it is written", async () => {
    const { clock, disk, heard } = await world();
    disk.write(`${root}/old.ckpt`, 400, whole());
    await clock.advance(100);
    disk.write(`${root}/old.ckpt`, 500, whole());
    await clock.advance(100);
    expect(heard()).toEqual(["refused old.ckpt ARRIVALS_UNSUPPORTED_FORMAT"]);
  });

  it("ARRIVALS_NAME_NOT_UTF8 when Node could not decode its name", async () => {
    const { heard } = await world((disk) => disk.write(`${root}/\ufffd.safetensors`, 400, whole(), 60_000));
    expect(heard()).toEqual(["refused \ufffd.safetensors ARRIVALS_NAME_NOT_UTF8"]);
  });
});

describe("hidden and foreign names", () => {
  it("are passed over: dot files, AppleDouble files, pictures", async () => {
    const { clock, disk, heard } = await world();
    for (const name of ["._a.safetensors", ".a.safetensors", "a.png", "a.safetensors.aria2", "a.txt"])
      disk.write(`${root}/${name}`, 10, whole(), 60_000);
    await clock.advance(5000);
    expect(heard()).toEqual([]);
  });
});

describe("a folder", () => {
  it("that is unmounted keeps its files, and says so once; a remount settles them again", async () => {
    const { clock, disk, heard } = await world((before) => {
      before.write(file, 1000, whole(), 60_000);
      before.write(`${root}/b.safetensors`, 1000, whole(), 60_000);
    });
    expect(heard()).toEqual(["settled a.safetensors", "settled b.safetensors"]);
    disk.unmount(root);
    await clock.advance(70_000);
    expect(heard().slice(2)).toEqual(["lost"]);
    disk.remount(root);
    await clock.advance(3000);
    expect(heard().slice(3).sort()).toEqual(["settled a.safetensors", "settled b.safetensors"]);
  });

  it("whose watcher fails is polled", async () => {
    const { clock, disk, heard } = await world();
    disk.hints().blind("ENOSPC");
    disk.deafen();
    await clock.advance(100);
    disk.write(file, 1000, whole(), 60_000);
    await clock.advance(2500);
    expect(heard()).toEqual(["settled a.safetensors"]);
  });

  it("finds by rescan what no event told", async () => {
    const { clock, disk, heard } = await world();
    await clock.advance(1000);
    disk.deafen();
    disk.write(file, 1000, whole());
    await clock.advance(30_000);
    expect(heard()).toEqual([]);
    await clock.advance(31_000);
    expect(heard()).toEqual(["settled a.safetensors"]);
    disk.remove(file);
    await clock.advance(61_000);
    expect(heard().slice(1)).toEqual(["gone a.safetensors"]);
  });

  it("below it that cannot be listed keeps its files, and is named", async () => {
    const { clock, disk, arrivals, batches, heard } = await world((before) =>
      before.write(`${root}/sub/x.safetensors`, 1000, whole(), 60_000),
    );
    disk.unlistable(`${root}/sub`);
    const rescan = arrivals.rescan();
    await clock.advance(1000);
    await rescan;
    expect(heard()).toEqual(["settled sub/x.safetensors"]);
    expect(batches.flat().findLast((event) => event.type === "scanned")).toMatchObject({ unreadable: [resolve(root, "sub")] });
  });

  it("gives a file to another by rename in one batch", async () => {
    const { clock, disk, arrivals, batches } = await world((before) => before.write("/models/other/y.safetensors", 1000, whole(), 60_000));
    disk.write(file, 1000, whole(), 60_000);
    await arrivals.setFolders([
      { path: root, kind: "adapter" },
      { path: "/models/other", kind: "adapter" },
    ]);
    await clock.advance(1000);
    const from = batches.length;
    disk.rename(file, "/models/other/a.safetensors");
    await clock.advance(1000);
    expect(
      batches
        .slice(from)
        .map((batch) => told([batch]))
        .filter((texts) => texts.length > 0),
    ).toEqual([["gone a.safetensors", "settled a.safetensors from a.safetensors"]]);
  });

  it("can be added and dropped while others go on", async () => {
    const { clock, disk, arrivals, batches } = await world((before) => before.write(`${root}/live/x.safetensors`, 1000, whole(), 60_000));
    const from = batches.length;
    await arrivals.setFolders([
      { path: root, kind: "adapter" },
      { path: `${root}/live`, kind: "adapter" },
    ]);
    expect(arrivals.folders().map((folder) => folder.path)).toEqual([resolve(root), resolve(root, "live")]);
    expect(told(batches.slice(from))).toEqual(["settled x.safetensors"]);
    await arrivals.setFolders([{ path: root, kind: "adapter" }]);
    expect(told(batches.slice(from))).toEqual(["settled x.safetensors", "dropped"]);
    disk.write(file, 1000, whole(), 5);
    await clock.advance(10);
    expect(told(batches.slice(from)).slice(2)).toEqual(["settled a.safetensors"]);
  });

  it("takes 10,000 files at once without losing one", async () => {
    const { clock, disk, heard } = await world();
    for (let index = 0; index < 10_000; index += 1) disk.write(`${root}/f${index}.safetensors`, 1000, whole());
    await clock.advance(2000);
    expect(new Set(heard()).size).toBe(10_000);
    expect(heard()).toHaveLength(10_000);
  });
});
