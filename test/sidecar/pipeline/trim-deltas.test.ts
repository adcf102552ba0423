import { existsSync, mkdtempSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";
import { createDeltaTrimmer } from "../../../sidecar/src/pipeline/trim-deltas.ts";

function folderOf(count: number) {
  const folder = mkdtempSync(join(tmpdir(), "refit-trim-"));
  const paths = Array.from({ length: count }, (_, index) => {
    const path = join(folder, `${index}.delta`);
    writeFileSync(path, new Uint8Array(100));
    utimesSync(path, 1000 + index, 1000 + index);
    return path;
  });
  return { folder, paths, left: () => paths.flatMap((path, index) => (existsSync(path) ? [index] : [])) };
}

it("removes the least recently used until the rest fits, and keeps what was just used and what is in use", async () => {
  const { folder, paths, left } = folderOf(6);
  const trimmer = createDeltaTrimmer(
    folder,
    () => 350,
    () => new Set([paths[1]!]),
  );
  trimmer.used(paths[0]!);
  await trimmer.idle();
  expect(left()).toEqual([0, 1, 5]);
});

it("touches nothing within the budget, and nothing that is no delta", async () => {
  const { folder, paths, left } = folderOf(3);
  writeFileSync(join(folder, "notes.txt"), new Uint8Array(10_000));
  const trimmer = createDeltaTrimmer(
    folder,
    () => 300,
    () => new Set(),
  );
  trimmer.used(paths[2]!);
  await trimmer.idle();
  expect(left()).toEqual([0, 1, 2]);
  expect(existsSync(join(folder, "notes.txt"))).toBe(true);
});

it("removes what a killed writer left behind, but not what is being written", async () => {
  const { folder, paths } = folderOf(1);
  writeFileSync(join(folder, ".a.tmp"), "");
  utimesSync(join(folder, ".a.tmp"), 1000, 1000);
  writeFileSync(join(folder, ".b.tmp"), "");
  const trimmer = createDeltaTrimmer(
    folder,
    () => 350,
    () => new Set(),
  );
  trimmer.used(paths[0]!);
  await trimmer.idle();
  expect([existsSync(join(folder, ".a.tmp")), existsSync(join(folder, ".b.tmp"))]).toEqual([false, true]);
});
