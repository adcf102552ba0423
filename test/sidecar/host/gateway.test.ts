// The sidecar's end of a gateway: channels, hosts on them, and what becomes of them. The gateway is a script here; the real one is tried by pipeline/providers/ray.e2e.test.ts.

import { describe, expect, it } from "vitest";
import { ChannelReader, onChannel } from "../../../sidecar/src/host/channels.ts";
import { startGateway } from "../../../sidecar/src/host/index.ts";
import type { Gateway, HostCommand } from "../../../sidecar/src/host/index.ts";

describe("ChannelReader", () => {
  it("hands on the bytes of each channel, however they are cut", () => {
    const whole = Buffer.concat(
      [onChannel(3, [Uint8Array.of(1, 2, 3), Uint8Array.of(4)]), onChannel(70_000, [Uint8Array.of(5, 6)])].flat(),
    );
    for (const size of [1, 5, 13, 100]) {
      const heard: [number, number[], boolean][] = [];
      const reader = new ChannelReader((channel, bytes, isLast) => void heard.push([channel, [...bytes], isLast]));
      for (let at = 0; at < whole.byteLength; at += size) reader.push(whole.subarray(at, at + size));
      const of = (channel: number) => heard.filter(([on]) => on === channel);
      expect(of(3).flatMap(([, bytes]) => bytes)).toEqual([1, 2, 3, 4]);
      expect(of(70_000).flatMap(([, bytes]) => bytes)).toEqual([5, 6]);
      expect([...of(3), ...of(70_000)].map(([, , isLast]) => isLast).filter(Boolean)).toHaveLength(2);
    }
  });
});

const door = new URL("../../../sidecar/dist/src/host/channels.js", import.meta.url).href;
const words = new URL("../../../protocol/dist/index.js", import.meta.url).href;

/** A gateway with one device. Its hosts say hello and answer status; `x:mute` never opens, a status that is asked with `segments` ends as told. */
const script = `
  const { ChannelReader, onChannel } = await import(${JSON.stringify(door)});
  const { encodeFrame, FrameReader } = await import(${JSON.stringify(words)});
  const write = (channel, bytes) => { for (const part of onChannel(channel, [bytes])) process.stdout.write(part); };
  const tell = (message) => write(0, Buffer.from(JSON.stringify({ jsonrpc: "2.0", ...message })));
  const hosts = new Map();
  const control = ({ id, method, params }) => {
    if (method === "join" && params.address === "nowhere") return tell({ id, error: { code: "HOST_RAY_UNREACHABLE", message: "nothing answers at nowhere" } });
    if (method === "join" && params.address === "gone") { tell({ id, result: { version: "1", devices: [] } }); tell({ method: "left", params: { reason: "its head began anew" } }); return setTimeout(() => process.exit(0), 50); }
    if (method === "join") return tell({ id, result: { version: "1", devices: [{ name: "x:0", node: "n", problem: null }] } });
    if (method === "open" && params.device === "x:none") return tell({ id, error: { code: "HOST_START_FAILED", message: "no room" } });
    if (method === "open") { hosts.set(params.channel, new FrameReader()); tell({ method: "line", params: { channel: params.channel, text: "starting" } }); return tell({ id, result: { pid: 7, node: "n" } }); }
    if (method === "renew") { for (const channel of hosts.keys()) tell({ method: "ended", params: { channel, reason: "renewed" } }); tell({ method: "devices", params: { devices: [{ name: "x:0", node: null, problem: "away" }] } }); return tell({ id, result: {} }); }
    tell({ id, result: {} });
  };
  const memory = { totalBytes: 1, freeBytes: 1 };
  const answers = { hello: { protocolVersion: 1, kind: "fake", versions: {}, device: { type: "cpu", name: "x" }, precisions: ["f32"], memory }, shutdown: {} };
  let rest = [];
  const reader = new ChannelReader((channel, bytes, isLast) => {
    if (channel > 0) { for (const { message } of hosts.get(channel).push(bytes)) if (answers[message.method]) write(channel, encodeFrame({ jsonrpc: "2.0", id: message.id, result: answers[message.method] })); return; }
    rest.push(Buffer.from(bytes)); if (!isLast) return;
    const message = JSON.parse(Buffer.concat(rest).toString()); rest = []; control(message);
  });
  process.stdin.on("data", (chunk) => reader.push(chunk));
  process.stdin.on("end", () => process.exit(0));
`;
const command: HostCommand = { kind: "ray", command: process.execPath, args: ["--input-type=module", "-e", script] };
const join = { protocolVersion: 1, address: "auto", actors: 1, gpus: 0, cpus: 1, files: "auto", adapters: null, inbox: null } as const;
const host: HostCommand = { kind: "fake", command: "fake", args: [] };

async function withGateway(work: (gateway: Gateway, told: string[]) => Promise<void>, source = command): Promise<void> {
  const told: string[] = [];
  const gateway = startGateway(source, {
    environment: [],
    onLog: (line) => void told.push(line),
    onDevices: (devices) => void told.push(...devices.map(({ name, problem }) => `${name} ${problem}`)),
    onFigures: () => undefined,
  });
  try {
    await work(gateway, told);
  } finally {
    await gateway.close();
  }
}

describe("startGateway", () => {
  it("starts hosts on channels of their own, and ends one without the others", () =>
    withGateway(async (gateway) => {
      expect((await gateway.call("join", join)).devices).toEqual([{ name: "x:0", node: "n", problem: null }]);
      const lines: string[] = [];
      const first = await gateway.open("x:0", host, { onLog: (line) => lines.push(line) });
      const second = await gateway.open("x:0", host);
      expect([first.about.kind, first.pid, lines]).toEqual(["fake", 7, ["starting"]]);
      const waiting = first.call("status", {});
      first.kill("tried out");
      await expect(waiting).rejects.toMatchObject({ code: "HOST_LOST", message: expect.stringContaining("tried out") as string });
      expect(await first.ended).toMatchObject({ reason: "tried out", log: ["starting"] });
      expect([first.gone(), second.gone()]).toEqual([true, false]);
    }));

  it("says why it could not join, or start a host", () =>
    withGateway(async (gateway) => {
      await expect(gateway.call("join", { ...join, address: "nowhere" })).rejects.toMatchObject({ code: "HOST_RAY_UNREACHABLE" });
      await expect(gateway.open("x:none", host)).rejects.toMatchObject({ code: "HOST_START_FAILED", message: "no room" });
    }));

  it("ends a host whose actor is gone, and believes nothing more of it", () =>
    withGateway(async (gateway, told) => {
      const one = await gateway.open("x:0", host);
      const lost = expect(one.call("status", {})).rejects.toMatchObject({ code: "HOST_LOST" });
      await gateway.call("renew", { device: "x:0" });
      await lost;
      expect((await one.ended).reason).toBe("renewed");
      expect(told).toContain("x:0 away");
      await expect(one.call("status", {})).rejects.toMatchObject({ code: "HOST_LOST" });
    }));

  it("ends with the reason for which it leaves the cluster", () =>
    withGateway(async (gateway) => {
      const one = await gateway.open("x:0", host);
      await gateway.call("join", { ...join, address: "gone" });
      expect(await gateway.ended).toBe("its head began anew");
      expect((await one.ended).reason).toBe("its head began anew");
      await expect(gateway.open("x:0", host)).rejects.toMatchObject({ message: expect.stringContaining("its head began anew") as string });
    }));

  it("ends every host and every call with itself, with its last words", async () => {
    await withGateway(async (gateway) => {
      const one = await gateway.open("x:0", host);
      await gateway.close();
      expect((await one.ended).reason).toContain("gateway");
      await expect(gateway.call("join", join)).rejects.toMatchObject({ code: "HOST_GATEWAY" });
    });
    const dying = { ...command, args: ["-e", "console.error('no such module'); process.exit(1)"] };
    await withGateway(async (gateway) => {
      await expect(gateway.call("join", join)).rejects.toMatchObject({
        code: "HOST_GATEWAY",
        message: expect.stringContaining("no such module") as string,
      });
    }, dying);
    const garbage = {
      ...command,
      args: [
        "-e",
        "process.stdout.write(Buffer.concat([Buffer.from([0,0,0,0,3,0,0,0,0,0,0,0]), Buffer.from('abc')])); setInterval(() => {}, 1000)",
      ],
    };
    await withGateway(async (gateway) => {
      await expect(gateway.call("join", join)).rejects.toMatchObject({ code: "HOST_GATEWAY" });
    }, garbage);
  });
});
