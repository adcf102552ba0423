import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { findRunning, readDiscovery, removeDiscovery, writeDiscovery, type Discovery } from "../../../sidecar/src/wire/discovery.ts";
import { cleanUp, connect, startFake, temporaryFolder } from "./support.ts";

const example: Discovery = {
  url: "http://127.0.0.1:1",
  ws_url: "ws://127.0.0.1:1/ws",
  token: "t",
  read_token: "r",
  pid: process.pid,
  version: "1",
};
const windows = process.platform === "win32";

describe("sidecar.json", () => {
  it("is complete, private, and the only file that its writing leaves", async () => {
    const { dataDir, discovery, server } = await startFake();
    expect(discovery).toEqual({
      url: server.url,
      ws_url: server.wsUrl,
      token: expect.stringMatching(/^.{22}$/),
      read_token: expect.stringMatching(/^.{22}$/),
      pid: process.pid,
      version: "9.9.9",
    });
    if (!windows) expect(statSync(join(dataDir, "sidecar.json")).mode & 0o777).toBe(0o600);
    expect(readdirSync(dataDir).filter((name) => name.includes("sidecar.json"))).toEqual(["sidecar.json"]);
  });

  it("lies in a folder that is made for its owner alone", async () => {
    const dataDir = join(temporaryFolder(), "new", "data");
    await startFake({}, { dataDir });
    if (!windows) expect(statSync(dataDir).mode & 0o777).toBe(0o700);
  });

  it("goes when the sidecar ends, unless it is another's by then", async () => {
    const { dataDir, server, discovery } = await startFake();
    await server.close();
    expect(existsSync(join(dataDir, "sidecar.json"))).toBe(false);
    await writeDiscovery(dataDir, { ...example, token: "another" });
    await removeDiscovery(dataDir, discovery.token);
    expect((await readDiscovery(dataDir))?.token).toBe("another");
  });

  it("has a fresh token and a working one after every start", async () => {
    const first = await startFake();
    await first.server.close();
    const second = await startFake({}, { dataDir: first.dataDir });
    expect(second.discovery.token).not.toBe(first.discovery.token);
    await expect(connect({ ...second, discovery: { ...second.discovery, token: first.discovery.token } })).rejects.toThrow(
      "refused with 401",
    );
    await expect(connect(second)).resolves.toBeDefined();
  });

  it.each<[string, string]>([
    ["nothing", ""],
    ["no JSON", "{"],
    ["a list", "[]"],
    ["no token", JSON.stringify({ ...example, token: undefined })],
    ["a text pid", JSON.stringify({ ...example, pid: "1" })],
    ["64 KiB of spaces", `${" ".repeat(65_537)}{}`],
  ])("that holds %s counts as none", async (_name, content) => {
    const dataDir = temporaryFolder();
    writeFileSync(join(dataDir, "sidecar.json"), content);
    expect(await readDiscovery(dataDir)).toBeNull();
    await startFake({}, { dataDir });
  });

  it.skipIf(windows)("is refused a folder that others may write to", async () => {
    const dataDir = join(temporaryFolder(), "shared");
    mkdirSync(dataDir);
    chmodSync(dataDir, 0o777);
    await expect(startFake({}, { dataDir })).rejects.toMatchObject({ code: "WIRE_DATA_DIR_UNSAFE" });
  });

  it("that cannot be written stops the start, and leaves nothing listening", async () => {
    const dataDir = temporaryFolder();
    mkdirSync(join(dataDir, "sidecar.json"));
    await expect(startFake({}, { dataDir })).rejects.toMatchObject({ code: "WIRE_DISCOVERY_FAILED" });
    expect(readdirSync(dataDir).filter((name) => name.startsWith(".sidecar.json"))).toEqual([]);
  });
});

describe("findRunning", () => {
  it("finds a sidecar that answers to its own token, so a second one on the folder is refused", async () => {
    const running = await startFake();
    expect(await findRunning(running.dataDir)).toEqual(running.discovery);
    await expect(startFake({}, { dataDir: running.dataDir })).rejects.toMatchObject({ code: "WIRE_ALREADY_RUNNING" });
    await expect(connect(running)).resolves.toBeDefined();
  });

  it("takes a dead pid, a reused pid and a stranger on the port for none", async () => {
    const dataDir = temporaryFolder();
    expect(await findRunning(dataDir)).toBeNull();
    await writeDiscovery(dataDir, { ...example, pid: 2 ** 22 + 12_345 });
    expect(await findRunning(dataDir, async () => expect.unreachable())).toBeNull();
    await writeDiscovery(dataDir, example);
    expect(await findRunning(dataDir)).toBeNull();
    const stranger = createServer((socket) =>
      socket.end('HTTP/1.1 200 OK\r\nContent-Length: 11\r\nContent-Type: application/json\r\n\r\n{"ok":true}'),
    ).listen(0, "127.0.0.1");
    cleanUp(() => void stranger.close());
    await new Promise((resolve) => stranger.once("listening", resolve));
    const address = stranger.address();
    const port = typeof address === "object" && address !== null ? address.port : 0;
    await writeDiscovery(dataDir, { ...example, url: `http://127.0.0.1:${port}` });
    expect(await findRunning(dataDir)).toBeNull();
    // Its file is replaced by the next start.
    const running = await startFake({}, { dataDir });
    expect(JSON.parse(readFileSync(join(dataDir, "sidecar.json"), "utf8"))).toEqual(running.discovery);
  });
});
