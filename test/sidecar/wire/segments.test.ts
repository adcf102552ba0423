import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readSync,
  statSync,
  lstatSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { describe, expect, it } from "vitest";
import type { TensorDescriptor } from "../../../protocol/src/index.ts";
import { makeFolder, removeStale, segmentPlace, segmentProof } from "../../../sidecar/src/wire/segments/index.ts";
import { createSegment } from "../../../sidecar/src/wire/segments/segment-file.ts";
import { bearer, connect, latent, startFake, temporaryFolder, wanted, type Client, type Running } from "./support.ts";

interface Offered {
  readonly request: { readonly index: number; readonly path: string; readonly bytes: number };
  readonly reply: { readonly index: number; readonly path: string; readonly bytes: number };
}
const MiB = 2 ** 20;

async function withSegments(segmentBytes = MiB): Promise<{ running: Running; client: Client; offered: Offered; proof: string }> {
  const running = await startFake();
  const client = await connect(running, bearer(running.discovery.token), [], null);
  const hello = await client.call("hello", {
    protocolVersions: [1],
    client: { name: "test", version: "1" },
    capabilities: ["segments"],
    segments: { requestBytes: segmentBytes, replyBytes: MiB },
  });
  const offered = hello.result["segments"] as unknown as Offered;
  return { running, client, offered, proof: segmentProof(readAt(offered.request.path, 0, 32), readAt(offered.reply.path, 0, 32)) };
}

function readAt(path: string, offset: number, bytes: number): Uint8Array {
  const data = new Uint8Array(bytes);
  const file = openSync(path, "r");
  readSync(file, data, 0, bytes, offset);
  closeSync(file);
  return data;
}
function writeAt(path: string, offset: number, data: Uint8Array): void {
  const file = openSync(path, "r+");
  writeSync(file, data, 0, data.byteLength, offset);
  closeSync(file);
}
const sample = (offset: number, bytes: number, segment = 0): TensorDescriptor => ({
  name: "sample",
  dtype: "u8",
  shape: [bytes],
  offset,
  bytes,
  segment,
});

describe("segments of a session", () => {
  it("are sparse files that only their owner may open, under names that cannot be guessed", async () => {
    const { offered } = await withSegments();
    for (const { path, bytes } of [offered.request, offered.reply]) {
      const stats = statSync(path);
      expect([stats.size, bytes]).toEqual([MiB, MiB]);
      expect(path.split(/[\\/]/).at(-1)).toMatch(/^[A-Za-z0-9_-]{22}$/);
      // On Windows the folder's access list counts and the mode says nothing; its files take their whole size.
      if (process.platform === "win32") continue;
      expect([stats.mode & 0o777, statSync(dirname(path)).mode & 0o777]).toEqual([0o600, 0o700]);
      expect(stats.blocks * 512).toBeLessThan(64 * 1024);
    }
  });

  it("carry a step both ways once the client has proved that it sees them", async () => {
    const { client, offered, proof } = await withSegments();
    await client.call("engine.prepare", wanted);
    expect((await client.call("engine.step", { lease: "l1" }, [], [sample(0, 100)])).code).toBe("WIRE_SEGMENT_REFUSED");
    expect((await client.call("segments.confirm", { proof: "0".repeat(64) })).result).toEqual({ enabled: false });
    expect((await client.call("segments.confirm", { proof })).result).toEqual({ enabled: true });
    writeAt(offered.request.path, 640, new Uint8Array(100).fill(7));
    const answer = await client.call(
      "engine.step",
      { lease: "l1", reply: { segment: 1, offset: 1280, bytes: 128 } },
      [],
      [sample(640, 100)],
    );
    expect(answer.result["tensors"]).toEqual([{ name: "out_sample", dtype: "u8", shape: [100], offset: 1280, bytes: 100, segment: 1 }]);
    expect([...readAt(offered.reply.path, 1280, 100)]).toEqual(new Array(100).fill(7));
  });

  it("leave the frame as the way for a reply that does not fit its range", async () => {
    const { client, offered, proof } = await withSegments();
    await client.call("segments.confirm", { proof });
    await client.call("engine.prepare", wanted);
    writeAt(offered.request.path, 0, new Uint8Array(100).fill(3));
    const answer = await client.call("engine.step", { lease: "l1", reply: { segment: 1, offset: 0, bytes: 99 } }, [], [sample(0, 100)]);
    expect(answer.tensors[0]!.data).toEqual(new Uint8Array(100).fill(3));
  });

  it("mix with tensors in the frame", async () => {
    const { running, client, proof } = await withSegments();
    await client.call("segments.confirm", { proof });
    await client.call("engine.prepare", wanted);
    await client.call("engine.step", { lease: "l1" }, [latent(8, 1, "timestep")], [sample(0, 100)]);
    expect(running.backend.seen["step"]).toMatchObject([
      {
        inputs: [
          { name: "sample", bytes: 100 },
          { name: "timestep", bytes: 8 },
        ],
      },
    ]);
  });

  it.each<[string, TensorDescriptor[], object, string]>([
    ["a segment that is not for requests", [sample(0, 64, 1)], {}, "WIRE_SEGMENT_REFUSED"],
    ["a segment that does not exist", [sample(0, 64, 9)], {}, "WIRE_SEGMENT_REFUSED"],
    ["a range across the end", [sample(MiB - 64, 128)], {}, "WIRE_SEGMENT_REFUSED"],
    ["a range far outside", [sample(2 ** 50, 64)], {}, "WIRE_SEGMENT_REFUSED"],
    ["an unaligned offset", [sample(3, 64)], {}, "FRAME_TENSOR_INVALID"],
    ["a size that is not the shape's", [{ ...sample(0, 64), bytes: 65 }], {}, "FRAME_TENSOR_INVALID"],
    ["a reply into the request segment", [sample(0, 64)], { reply: { segment: 0, offset: 0, bytes: 64 } }, "WIRE_SEGMENT_REFUSED"],
    ["a reply across the end", [sample(0, 64)], { reply: { segment: 1, offset: MiB - 64, bytes: 128 } }, "WIRE_SEGMENT_REFUSED"],
    ["an unaligned reply", [sample(0, 64)], { reply: { segment: 1, offset: 1, bytes: 64 } }, "WIRE_SEGMENT_REFUSED"],
    ["a negative reply", [sample(0, 64)], { reply: { segment: 1, offset: -64, bytes: 64 } }, "WIRE_PARAMS_INVALID"],
  ])("refuse %s", async (_name, descriptors, more, code) => {
    const { client, proof } = await withSegments();
    await client.call("segments.confirm", { proof });
    await client.call("engine.prepare", wanted);
    expect((await client.call("engine.step", { lease: "l1", ...more }, [], descriptors)).code).toBe(code);
    expect((await client.call("engine.step", { lease: "l1" }, [latent(8, 1)])).code).toBeNull();
  });

  it("that the client cuts short are an error of that call, not a crash", async () => {
    const { client, offered, proof } = await withSegments();
    await client.call("segments.confirm", { proof });
    await client.call("engine.prepare", wanted);
    truncateSync(offered.request.path, 100);
    expect((await client.call("engine.step", { lease: "l1" }, [], [sample(64, 640)])).code).toBe("WIRE_SEGMENT_SHORT");
    expect((await client.call("engine.step", { lease: "l1" }, [latent(8, 1)])).code).toBeNull();
  });

  it("keep a step's large tensors for the engine host, and give small ones and those of other calls to the sidecar", async () => {
    const { running, client, offered, proof } = await withSegments(4 * MiB);
    await client.call("segments.confirm", { proof });
    await client.call("engine.prepare", wanted);
    const data = new Uint8Array(MiB).map((_, index) => index % 251);
    writeAt(offered.request.path, 128, data);
    const answer = await client.call(
      "engine.step",
      { lease: "l1" },
      [latent(8, 1, "timestep")],
      [sample(128, MiB), { ...sample(0, 64), name: "small" }],
    );
    expect(running.backend.seen["step"]).toMatchObject([
      {
        inputs: [
          { name: "sample", bytes: "placed" },
          { name: "small", bytes: 64 },
          { name: "timestep", bytes: 8 },
        ],
      },
    ]);
    expect(Buffer.compare(answer.tensors[0]?.data ?? new Uint8Array(), data)).toBe(0);
    expect((await client.call("conditioning.put", {}, [], [sample(128, MiB)])).result).toEqual({ bytes: MiB });
    writeAt(offered.request.path, 128, new Uint8Array(MiB));
    const kept = await client.call("engine.step", { lease: "l1", use: { sample: "sample" } });
    expect(Buffer.compare(kept.tensors[0]?.data ?? new Uint8Array(), data)).toBe(0);
    expect((await client.call("engine.step", { lease: "l1", use: { sample: "sample" } }, [], [sample(128, MiB)])).code).toBe(
      "STEP_INPUT_INVALID",
    );
  });

  it("refuse large tensors as they refuse small ones", async () => {
    const { client, offered, proof } = await withSegments(4 * MiB);
    await client.call("engine.prepare", wanted);
    expect((await client.call("engine.step", { lease: "l1" }, [], [sample(0, MiB)])).code).toBe("WIRE_SEGMENT_REFUSED");
    await client.call("segments.confirm", { proof });
    for (const [offset, bytes, segment] of [
      [3 * MiB + 64, MiB, 0],
      [2 ** 50, MiB, 0],
      [0, MiB, 1],
      [0, MiB, 9],
    ] as const) {
      expect((await client.call("engine.step", { lease: "l1" }, [], [sample(offset, bytes, segment)])).code).toBe("WIRE_SEGMENT_REFUSED");
    }
    const many = Array.from({ length: 129 }, (_, index) => ({ ...sample(0, 4 * MiB), name: `t${index}` }));
    expect((await client.call("engine.step", { lease: "l1" }, [], many)).code).toBe("WIRE_SEGMENT_REFUSED");
    truncateSync(offered.request.path, MiB);
    expect((await client.call("engine.step", { lease: "l1" }, [], [sample(64, MiB)])).code).toBe("WIRE_SEGMENT_SHORT");
    expect((await client.call("engine.step", { lease: "l1" }, [latent(8, 1)])).code).toBeNull();
  });

  it("lie in the folder that hosts are told of before anybody connects", async () => {
    const folders: (string | null)[] = [];
    const running = await startFake({}, { onSegmentFolder: (folder) => void folders.push(folder) });
    const client = await connect(running, bearer(running.discovery.token), [], null);
    const hello = await client.call("hello", {
      protocolVersions: [1],
      client: { name: "t", version: "1" },
      capabilities: ["segments"],
      segments: { requestBytes: MiB, replyBytes: MiB },
    });
    expect(folders).toEqual([dirname((hello.result["segments"] as unknown as Offered).request.path)]);
  });

  it("are gone when the session or the sidecar ends", async () => {
    const { running, client, offered } = await withSegments();
    client.socket.terminate();
    await client.closed;
    const other = await connect(running);
    while (existsSync(offered.request.path)) await other.call("ping");
    await running.server.close();
    expect(existsSync(dirname(offered.request.path))).toBe(false);
  });

  it("are named in no log line and no error", async () => {
    const { running, client, offered } = await withSegments();
    const answer = await client.call("engine.step", { lease: "l1" }, [], [sample(0, 64)]);
    const names = [offered.request.path, offered.reply.path].flatMap((path) => [path, path.split(/[\\/]/).at(-1)!]);
    for (const name of names) expect(JSON.stringify(answer.message) + running.logLines.join("")).not.toContain(name);
  });

  it("are offered to nobody behind a proxy, nor to a read token", async () => {
    const proxied = await startFake({ behindProxy: true });
    const wish = { segments: { requestBytes: MiB, replyBytes: MiB } };
    const client = await connect(proxied, bearer(proxied.discovery.token), [], null);
    const hello = { protocolVersions: [1], client: { name: "t", version: "1" }, capabilities: ["segments"], ...wish };
    expect((await client.call("hello", hello)).result["segments"]).toBeNull();
    const plain = await startFake();
    const reader = await connect(plain, bearer(plain.discovery.read_token), [], null);
    expect((await reader.call("hello", hello)).result["segments"]).toBeNull();
  });
});

describe("createSegment", () => {
  it("reports a file that cannot be read or written any more", async () => {
    const segment = await createSegment(temporaryFolder(), 4096);
    await segment.write(new Uint8Array(64).fill(1), 4096);
    const back = new Uint8Array(64);
    await segment.read(back, 4096);
    expect(back[0]).toBe(1);
    await segment.remove();
    await expect(segment.read(back, 0)).rejects.toMatchObject({ code: "WIRE_SEGMENT_FAILED" });
    await expect(segment.write(back, 0)).rejects.toMatchObject({ code: "WIRE_SEGMENT_FAILED" });
  });

  it("copies tensors larger than what it copies at once on the event loop", async () => {
    const segment = await createSegment(temporaryFolder(), 8 * MiB);
    const data = new Uint8Array(3 * MiB).map((_, index) => index % 253);
    await segment.write(data, 64);
    const back = new Uint8Array(3 * MiB);
    await segment.read(back, 64);
    expect(Buffer.compare(back, data)).toBe(0);
    await segment.remove();
  });
});

describe("the segment folder", () => {
  it("of an ended sidecar is removed, others stay", async () => {
    const parent = temporaryFolder();
    const place = { parent, owner: "refit-sidecar-0-1" };
    const mine = await makeFolder(place);
    const dead = join(parent, "refit-sidecar-0-1-4242-abc");
    mkdirSync(dead);
    writeFileSync(join(dead, "x"), "x");
    const untouched = ["refit-sidecar-0-1-notapid-abc", "refit-sidecar-0-2-4242-abc", "refit-sidecar-9-1-4242-abc", "other"];
    for (const name of untouched) mkdirSync(join(parent, name));
    symlinkSync(temporaryFolder(), join(parent, "refit-sidecar-0-1-4243-link"));
    // Wine says that it made a link, and makes none (tools/windows/limits).
    if (lstatSync(join(parent, "refit-sidecar-0-1-4243-link"), { throwIfNoEntry: false })) untouched.push("refit-sidecar-0-1-4243-link");
    expect(await removeStale(place, (pid) => pid === process.pid)).toBe(1);
    expect(readdirSync(parent).toSorted()).toEqual([...untouched, mine.split(/[\\/]/).at(-1)!].toSorted());
  });

  it("lies in the data folder where there is no memory file system", async () => {
    const dataDir = temporaryFolder();
    expect(await segmentPlace(dataDir, join(dataDir, "missing"))).toMatchObject({ parent: join(dataDir, "segments") });
  });
});
