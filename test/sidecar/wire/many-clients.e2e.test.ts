// 200 clients at once, while others flood with fragments and read nothing: no reply lost, none crossed, memory bounded.
import { once } from "node:events";
import { connect as connectTcp } from "node:net";
import { describe, expect, it } from "vitest";
import { record } from "../../record.ts";
import { raw, upgradeLines } from "./raw-http.ts";
import { cleanUp, connect, latent, startFake, wanted } from "./support.ts";

const clientCount = 200;
const stepsEach = 20;
const bytes = 64 * 1024;

describe("200 clients", () => {
  it("step at once beside a slow reader and a fragment flood, with no reply lost or crossed", async () => {
    const running = await startFake();
    const clients = await Promise.all(Array.from({ length: clientCount }, () => connect(running)));

    const slow = await connect(running);
    const { result } = await slow.call("engine.prepare", wanted);
    slow.socket.pause();
    for (let turn = 0; turn < 40; turn += 1) void slow.call("engine.step", { lease: result["lease"] }, [latent(4 * 2 ** 20, 1)]);

    const url = new URL(running.server.url);
    expect((await raw(Number(url.port), upgradeLines(url.host))).status).toBe(401);
    const flood = connectTcp(Number(url.port), "127.0.0.1");
    cleanUp(() => void flood.destroy());
    flood.on("error", () => undefined);
    flood.write(`${upgradeLines(url.host, [`Authorization: Bearer ${running.discovery.token}`]).join("\r\n")}\r\n\r\n`);
    await once(flood, "data");
    const floodEnded = once(flood, "close");
    flood.resume();
    flood.write(
      Buffer.concat([
        Buffer.from([0x01, 0x81, 0, 0, 0, 0, 0x20]),
        ...Array.from({ length: 10_000 }, () => Buffer.from([0x00, 0x81, 0, 0, 0, 0, 0x20])),
      ]),
    );

    const times: number[] = [];
    let answered = 0;
    let crossed = 0;
    await Promise.all(
      clients.map(async (client, index) => {
        const prepared = await client.call("engine.prepare", wanted);
        for (let turn = 0; turn < stepsEach; turn += 1) {
          const fill = (index * stepsEach + turn) % 251;
          const startMs = performance.now();
          const { tensors } = await client.call("engine.step", { lease: prepared.result["lease"] }, [latent(bytes, fill)]);
          times.push(performance.now() - startMs);
          answered += 1;
          if (tensors[0] === undefined || Buffer.compare(tensors[0].data, Buffer.alloc(bytes, fill)) !== 0) crossed += 1;
        }
      }),
    );
    await floodEnded;
    while (running.server.clients() > clientCount) await clients[0]!.call("ping");
    times.sort((a, b) => a - b);
    expect([answered, crossed, clients.flatMap((client) => client.orphans).length]).toEqual([clientCount * stepsEach, 0, 0]);
    expect(running.server.clients()).toBe(clientCount);
    expect(running.metricsText()).toContain("refit_wire_slow_readers_total 1");
    record("wire-clients", {
      promise: "A slow reader and a flood of tiny fragments are dropped; 200 other clients do not notice",
      figure: `${answered} steps of 64 KiB each way, engine excluded: 0 lost, ${crossed} crossed; p50 ${times[times.length >> 1]!.toFixed(1)} ms, p99 ${times[Math.floor(times.length * 0.99)]!.toFixed(1)} ms, all clients in one process`,
      test: "test/sidecar/wire/many-clients.e2e.test.ts",
    });
  }, 300_000);
});
