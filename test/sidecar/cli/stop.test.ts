import { spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { afterAll, expect, it } from "vitest";
import { stopSidecar } from "../../../sidecar/src/cli/stop.ts";
import { main } from "../../../sidecar/src/main.ts";

const folder = mkdtempSync(join(tmpdir(), "refit-stop-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function fake(name: string, url: string, pid = process.pid): string {
  const data = join(folder, name);
  mkdirSync(data);
  writeFileSync(join(data, "sidecar.json"), JSON.stringify({ url, ws_url: "ws://127.0.0.1:1", token: "secret", pid, version: "0.0.9" }));
  return data;
}

async function answering(status: number): Promise<{ url: string; asked: string[]; close: () => void }> {
  const asked: string[] = [];
  const server = createServer((request, response) => {
    asked.push(`${request.method} ${request.url} ${request.headers.authorization}`);
    response.writeHead(status).end("{}");
  });
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, asked, close: () => void server.close() };
}

it("a running sidecar ends, and leaves no address behind; none is no error", async () => {
  const data = join(folder, "real");
  const entry = join(import.meta.dirname, "../../..", "sidecar", "bin", "refit-sidecar.mjs");
  const child = spawn(process.execPath, [entry, "serve", "--json", "--spare-host", "off", "--data-dir", data], {
    stdio: ["ignore", "pipe", "ignore"],
  });
  const ended = new Promise<number | null>((done) => child.once("exit", done));
  await new Promise<string>((line) => createInterface({ input: child.stdout }).once("line", line));
  expect(await main(["stop", "--json", "--data-dir", data])).toBe(0);
  expect(await ended).toBe(0);
  expect(existsSync(join(data, "sidecar.json"))).toBe(false);
  expect(await stopSidecar(data)).toBe(false);
});

it("what a killed sidecar left is no running one", async () => {
  expect(await stopSidecar(fake("killed", "http://127.0.0.1:1", 2 ** 22 + 1))).toBe(false);
});

it("CLI_STOP_NO_ANSWER: nothing at the address; the process is left alone", async () => {
  await expect(stopSidecar(fake("deaf", "http://127.0.0.1:1"))).rejects.toMatchObject({
    code: "CLI_STOP_NO_ANSWER",
    message: expect.stringContaining("remove sidecar.json"),
  });
  // No argument was wrong.
  expect(await main(["stop", "--json", "--data-dir", join(folder, "deaf")])).toBe(1);
});

it("CLI_STOP_REFUSED: a version that cannot be asked. CLI_STOP_LATE: one that does not end", async () => {
  const [old, stuck] = [await answering(404), await answering(200)];
  try {
    await expect(stopSidecar(fake("old", old.url))).rejects.toMatchObject({ code: "CLI_STOP_REFUSED" });
    await expect(stopSidecar(fake("stuck", stuck.url), 300)).rejects.toMatchObject({ code: "CLI_STOP_LATE" });
    expect(stuck.asked).toEqual(["POST /stop Bearer secret"]);
  } finally {
    old.close();
    stuck.close();
  }
});
