// Memory of an engine's device that client and engine host share: names and ranges pass through the sidecar, bytes do not.

import { describe, expect, it } from "vitest";
import type { JsonObject, TensorDescriptor } from "../../../protocol/src/index.ts";
import { connect, latent, startFake, wanted, type Client, type Running } from "./support.ts";

const MiB = 2 ** 20;
interface Row {
  readonly index: number;
  readonly medium: string;
  readonly bytes: number;
  readonly handle: string;
}
interface Memory extends JsonObject {
  readonly name: string;
  readonly proof: string;
  readonly released: boolean;
}

const memories = (running: Running): Memory[] => running.backend.seen["shared"] as Memory[];
const lease = async (client: Client): Promise<string> => (await client.call("engine.prepare", wanted)).result["lease"] as string;

async function opened(running: Running): Promise<{ client: Client; row: Row; leased: string; proof: string }> {
  const client = await connect(running);
  const leased = await lease(client);
  const row = (await open(client, leased)).result["segment"] as unknown as Row;
  return { client, row, leased, proof: memories(running).at(-1)?.proof ?? "" };
}

async function confirmed(running: Running): Promise<{ client: Client; row: Row; leased: string }> {
  const { proof, ...rest } = await opened(running);
  expect((await rest.client.call("segments.confirm", { segment: rest.row.index, proof })).result).toEqual({ enabled: true });
  return rest;
}

const open = (client: Client, leased: string, device = "here", bytes = MiB) =>
  client.call("segments.open", { lease: leased, medium: "memfd", device, bytes });
const sample = (segment: number, offset = 64, bytes = 4096): TensorDescriptor => ({
  name: "sample",
  dtype: "u8",
  shape: [bytes],
  offset,
  bytes,
  segment,
});
const step = (client: Client, leased: string, descriptor: TensorDescriptor, offset = 8192) =>
  client.call("engine.step", { lease: leased, reply: { segment: descriptor.segment ?? 0, offset, bytes: 8192 } }, [], [descriptor]);

describe("device segments", () => {
  it("carry a step's input and output by place, small ones too, beside tensors of the frame", async () => {
    const running = await startFake();
    const { client, row, leased } = await confirmed(running);
    expect(row).toMatchObject({ medium: "memfd", bytes: MiB, handle: "aGVyZQ==" });
    const answer = await step(client, leased, sample(row.index));
    expect(answer.result["tensors"]).toEqual([{ ...sample(row.index), name: "out_sample", offset: 8192 }]);
    const params = { lease: leased, reply: { segment: row.index, offset: 8192, bytes: 8192 } };
    const mixed = await client.call("engine.step", params, [latent(16, 7, "timestep")], [sample(row.index)]);
    expect([mixed.code, mixed.tensors]).toEqual([null, []]);
    expect(running.backend.seen["step"]?.at(-1)).toMatchObject({
      inputs: [
        { name: "sample", bytes: "placed" },
        { name: "timestep", bytes: 16 },
      ],
    });
  });

  it("are off until the client has proved that it sees the memory", async () => {
    const running = await startFake();
    const { client, row, leased, proof } = await opened(running);
    expect((await step(client, leased, sample(row.index))).code).toBe("WIRE_SEGMENT_REFUSED");
    expect((await client.call("segments.confirm", { segment: row.index, proof: "0".repeat(64) })).result).toEqual({ enabled: false });
    expect((await step(client, leased, sample(row.index))).code).toBe("WIRE_SEGMENT_REFUSED");
    expect((await client.call("segments.confirm", { segment: row.index, proof })).result).toEqual({ enabled: true });
    expect((await step(client, leased, sample(row.index))).code).toBeNull();
  });

  it("take ranges on multiples of 64 inside them alone, for inputs and for the reply", async () => {
    const running = await startFake();
    const { client, row, leased } = await confirmed(running);
    expect((await step(client, leased, sample(row.index, MiB - 64))).code).toBe("WIRE_SEGMENT_REFUSED");
    expect((await step(client, leased, sample(row.index), MiB - 64)).code).toBe("WIRE_SEGMENT_REFUSED");
    expect((await step(client, leased, sample(row.index), 65)).code).toBe("WIRE_SEGMENT_REFUSED");
    expect((await step(client, leased, sample(row.index, 65))).code).toBe("FRAME_TENSOR_INVALID");
    expect((await client.call("conditioning.put", {}, [], [sample(row.index)])).code).toBe("WIRE_SEGMENT_REFUSED");
    expect(running.backend.seen["step"]).toEqual([]);
  });

  it("WIRE_SEGMENT_STALE for one of another session, one that was closed, and one that the host no longer has", async () => {
    const running = await startFake();
    const { client, row, leased } = await confirmed(running);
    const other = await connect(running);
    const theirs = await lease(other);
    expect((await step(other, theirs, sample(row.index))).code).toBe("WIRE_SEGMENT_STALE");
    expect((await other.call("segments.close", { segment: row.index })).code).toBeNull();
    expect((await step(client, leased, sample(row.index))).code).toBeNull();
    await client.call("segments.close", { segment: row.index });
    expect(memories(running)[0]?.released).toBe(true);
    expect((await step(client, leased, sample(row.index))).code).toBe("WIRE_SEGMENT_STALE");
    const again = await confirmed(running);
    expect(again.row.index).toBeGreaterThan(row.index);
    (memories(running).at(-1) as { released: boolean }).released = true;
    const stale = await step(again.client, again.leased, sample(again.row.index));
    expect(stale.code).toBe("WIRE_SEGMENT_STALE");
    expect(JSON.stringify(stale.message)).not.toContain("shared-");
  });

  it("tell why there is none, and refuse more or larger ones than a session may have", async () => {
    const running = await startFake();
    const client = await connect(running);
    const leased = await lease(client);
    expect((await open(client, leased, "elsewhere")).result).toEqual({
      segment: null,
      reason: "the UI draws on another device than the engine",
    });
    expect((await open(client, "none")).code).toBe("WIRE_LEASE_UNKNOWN");
    expect((await open(client, leased, "here", 2 ** 30)).code).toBe("WIRE_SEGMENT_REFUSED");
    const codes = await Promise.all(Array.from({ length: 5 }, async () => (await open(client, leased)).code));
    expect(codes.filter((code) => code === "WIRE_SEGMENT_REFUSED")).toHaveLength(1);
  });

  it("have a bell where their host has one; files have none", async () => {
    const running = await startFake();
    const { client, row, leased } = await confirmed(running);
    expect((row as unknown as JsonObject)["bell"]).toBe("YmVsbA==");
    const reply = { segment: row.index, offset: 8192, bytes: 8192, bell: 7 };
    expect((await client.call("engine.step", { lease: leased, reply }, [], [sample(row.index)])).code).toBeNull();
    expect(running.backend.seen["replies"]?.at(-1)).toEqual({ segment: "shared-0", offset: 8192, bytes: 8192, bell: 7 });
  });

  it("believe no output outside of the range that the client gave", async () => {
    const running = await startFake();
    const { client, row, leased } = await confirmed(running);
    running.backend.seen["strays"]?.push(1);
    expect((await step(client, leased, sample(row.index))).code).toBe("ENGINE_FAILED");
  });

  it("are counted in the status, and go with their session", async () => {
    const running = await startFake();
    const { client } = await confirmed(running);
    const watcher = await connect(running);
    expect((await watcher.call("status")).result["deviceSegments"]).toEqual({ count: 1, bytes: MiB });
    client.socket.terminate();
    await expect.poll(async () => (await watcher.call("status")).result["deviceSegments"]).toEqual({ count: 0, bytes: 0 });
    expect(memories(running)[0]?.released).toBe(true);
  });
});
