import { mkdtempSync, readdirSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";
import { lockDataDir, type LockParts } from "../../../sidecar/src/wire/data-lock.ts";

const folder = () => mkdtempSync(join(tmpdir(), "refit-lock-"));
const ports = (changes: Partial<LockParts> = {}): LockParts => ({
  alive: () => false,
  running: async () => null,
  startingMs: 50,
  ...changes,
});
const lock = (dir: string) => join(dir, "sidecar.lock");

it("is taken once, and again after it was given back; nothing is left behind", async () => {
  const dir = folder();
  const give = await lockDataDir(dir, ports());
  expect(readdirSync(dir)).toEqual(["sidecar.lock"]);
  await give();
  expect(readdirSync(dir)).toEqual([]);
  await (
    await lockDataDir(dir, ports())
  )();
});

it("of eight that start in the same instant one gets it, the others hear who serves", async () => {
  const dir = folder();
  let served = false;
  const busy = ports({ alive: () => true, running: async () => (served ? { pid: 7 } : null), startingMs: 5000 });
  const all = await Promise.allSettled(Array.from({ length: 8 }, () => lockDataDir(dir, busy).then(() => (served = true))));
  expect(all.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
  for (const one of all) if (one.status === "rejected") expect(one.reason).toMatchObject({ code: "WIRE_ALREADY_RUNNING" });
});

it.each([
  ["of a process that has ended", "4711 x", ports()],
  ["of a number that another program has now", "4711 x", ports({ alive: () => true })],
  ["that was cut short", "", ports()],
])("a lock %s is taken over", async (_, content, given) => {
  const dir = folder();
  writeFileSync(lock(dir), content);
  await (
    await lockDataDir(dir, given)
  )();
  expect(readdirSync(dir)).toEqual([]);
});

it("a lock from before the computer's start is taken over at once, whoever has its number now", async () => {
  const dir = folder();
  writeFileSync(lock(dir), "1 x");
  utimesSync(lock(dir), 1000, 1000);
  await (
    await lockDataDir(dir, ports({ alive: () => true, startingMs: 60_000 }))
  )();
});

it("giving back does not remove another's lock", async () => {
  const dir = folder();
  const give = await lockDataDir(dir, ports());
  writeFileSync(lock(dir), "1 somebody else");
  await give();
  expect(readdirSync(dir)).toEqual(["sidecar.lock"]);
});
