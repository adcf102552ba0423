import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { decodeFrame, encodeFrame, FrameReader } from "../../../protocol/src/index.ts";
import type { Frame, FrameTensor, JsonObject } from "../../../protocol/src/index.ts";
import { HostConnection, type PlacedTensor } from "../../../sidecar/src/host/index.ts";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

function wire() {
  const reader = new FrameReader();
  const sent: Frame[] = [];
  const broken: string[] = [];
  const logs: string[] = [];
  const connection = new HostConnection({
    write: (parts) => {
      for (const part of parts) sent.push(...reader.push(part));
    },
    onBroken: (reason) => broken.push(reason),
    onLog: (level, message) => logs.push(`${level} ${message}`),
  });
  const answer = (message: JsonObject, tensors: readonly FrameTensor[] = []): void =>
    connection.receive(encodeFrame({ jsonrpc: "2.0", ...message }, tensors));
  return { connection, sent, broken, logs, answer };
}
const committed = { ms: 1, writes: 2, generation: 3 };

describe("HostConnection", () => {
  it("pairs answers with calls, in any order", async () => {
    const { connection, sent, answer } = wire();
    const first = connection.call("commit", { engine: "e", token: "1" });
    const second = connection.call("commit", { engine: "e", token: "2" });
    expect(sent.map(({ message }) => [message["id"], message["method"]])).toEqual([
      [1, "commit"],
      [2, "commit"],
    ]);
    answer({ id: 2, result: { ...committed, generation: 8 } });
    answer({ id: 1, result: committed });
    expect([(await first).generation, (await second).generation]).toEqual([3, 8]);
  });
  it("sends an input once to a host that keeps inputs, and again when the host let it go", async () => {
    const { connection, sent, answer } = wire();
    const about = {
      protocolVersion: 1,
      kind: "k",
      versions: {},
      device: { type: "cpu", name: "c" },
      precisions: [],
      memory: { totalBytes: 1, freeBytes: 1 },
    };
    const hello = connection.call("hello", { protocolVersion: 1 });
    answer({ id: 1, result: { ...about, keepsInputs: true } });
    await hello;
    const tensor = (name: string, key?: string) => ({
      name,
      dtype: "u8" as const,
      shape: [1],
      data: new Uint8Array([7]),
      ...(key === undefined ? {} : { key }),
    });
    const step = async (id: number): Promise<void> => {
      const reply = connection.call("step", { engine: "e", generation: 1 }, { tensors: [tensor("x"), tensor("words", "s1/1")] });
      answer({ id, result: { ms: 1 } });
      await reply;
    };
    const told = (frame: Frame | undefined) => {
      const { tensors: _, ...params } = frame?.message["params"] as JsonObject;
      return [params, frame?.tensors.map(({ name }) => name)];
    };
    await step(2);
    expect(told(sent[1])).toEqual([{ engine: "e", generation: 1, keep: { words: "s1/1" } }, ["x", "words"]]);
    await step(3);
    expect(told(sent[2])).toEqual([{ engine: "e", generation: 1, use: { words: "s1/1" } }, ["x"]]);
    const forgotten = connection.call("step", { engine: "e", generation: 1 }, { tensors: [tensor("x"), tensor("words", "s1/1")] });
    answer({ id: 4, error: { code: -32054, message: "gone", data: { code: "HOST_INPUT_FORGOTTEN", evidence: {} } } });
    await vi.waitFor(() => expect(sent).toHaveLength(5));
    answer({ id: 5, result: { ms: 1 } });
    await forgotten;
    expect(told(sent[4])).toEqual([{ engine: "e", generation: 1, keep: { words: "s1/1" } }, ["x", "words"]]);
  });
  it("hands on how an engine serves, and leaves out what does not fit", () => {
    const told: unknown[] = [];
    const connection = new HostConnection({
      write: () => undefined,
      onBroken: () => undefined,
      onLog: () => undefined,
      onServing: (serving) => told.push(serving),
    });
    const say = (placement: JsonObject): void =>
      connection.receive(encodeFrame({ jsonrpc: "2.0", method: "serving", params: { engine: "e", placement } }));
    say({
      base: "resident",
      tier: "CUDA graphs",
      deviceBytes: 1,
      streamedBytes: 0,
      refused: [{ steps: "batch 1", reason: "no compiler" }],
    });
    say({ base: "resident", tier: 7, deviceBytes: 1, streamedBytes: 0 });
    expect(told).toEqual([
      {
        engine: "e",
        placement: {
          base: "resident",
          tier: "CUDA graphs",
          deviceBytes: 1,
          streamedBytes: 0,
          refused: [{ steps: "batch 1", reason: "no compiler" }],
        },
      },
    ]);
  });
  it("carries tensors both ways", async () => {
    const { connection, sent, answer } = wire();
    const tensor: FrameTensor = { name: "sample", dtype: "u8", shape: [2], data: Uint8Array.of(1, 2) };
    const step = connection.call("step", { engine: "e", generation: 1 }, { tensors: [tensor] });
    expect(sent[0]?.tensors).toMatchObject([{ name: "sample" }]);
    answer({ id: 1, result: { ms: 5 } }, [{ ...tensor, name: "out_sample" }]);
    expect((await step).tensors).toMatchObject([{ name: "out_sample", shape: [2] }]);
  });
  it("leaves placed tensors where they are for a host that reads segments, and reads them for any other", async () => {
    const timestep: FrameTensor = { name: "timestep", dtype: "u8", shape: [1], data: Uint8Array.of(9) };
    const data = Uint8Array.of(1, 2);
    const at = (name: string, segment: string, offset: number): PlacedTensor => ({
      name,
      dtype: "u8",
      shape: [2],
      bytes: 2,
      segment,
      offset,
      read: async () => ({ name, dtype: "u8", shape: [2], data }),
    });
    const tensors = [at("a", "s1", 64), timestep, at("b", "s2", 0), at("c", "s1", 128)];
    const about = {
      protocolVersion: 1,
      kind: "k",
      versions: {},
      device: { type: "", name: "" },
      precisions: [],
      memory: { totalBytes: 1, freeBytes: 1 },
    };
    for (const segments of [true, false]) {
      const { connection, sent, answer } = wire();
      const hello = connection.call("hello", { protocolVersion: 1, segments: "folder" });
      answer({ id: 1, result: { ...about, segments } });
      await hello;
      const step = connection.call("step", { engine: "e", generation: 1 }, { tensors });
      const next = connection.call("status", {});
      if (segments) expect(sent.map(({ message }) => message["method"])).toEqual(["hello", "step", "status"]);
      await vi.waitFor(() => expect(sent).toHaveLength(3));
      const frame = sent.find(({ message }) => message["method"] === "step");
      if (segments) {
        expect(frame?.message["params"]).toMatchObject({ engine: "e", generation: 1, segments: ["s1", "s2"] });
        expect(frame?.descriptors).toMatchObject([
          { name: "a", segment: 0, offset: 64, bytes: 2 },
          { name: "b", segment: 1, offset: 0 },
          { name: "c", segment: 0, offset: 128 },
          { name: "timestep" },
        ]);
        expect(frame?.tensors.map(({ name }) => name)).toEqual(["timestep"]);
      } else {
        expect(frame?.message["params"]).not.toHaveProperty("segments");
        expect(frame?.tensors.map((tensor) => [tensor.name, ...tensor.data])).toEqual([
          ["a", 1, 2],
          ["timestep", 9],
          ["b", 1, 2],
          ["c", 1, 2],
        ]);
      }
      for (const { message } of sent.slice(1))
        answer(
          message["method"] === "step"
            ? { id: Number(message["id"]), result: { ms: 1 } }
            : {
                id: Number(message["id"]),
                result: { engines: [], sessionLoads: 0, memory: { totalBytes: 1, freeBytes: 1, processBytes: 1 } },
              },
        );
      await Promise.all([step, next]);
    }
  });
  it("fails a step whose tensors cannot be read, or whose host ends meanwhile", async () => {
    const { connection, sent } = wire();
    const place = { name: "a", dtype: "u8", shape: [2], bytes: 2, segment: "s", offset: 0 } as const;
    const broken = connection.call(
      "step",
      { engine: "e", generation: 1 },
      { tensors: [{ ...place, read: () => Promise.reject(new Error("cut")) }] },
    );
    await expect(broken).rejects.toThrow("cut");
    let arrive = (): void => undefined;
    const late = new Promise<FrameTensor>((resolve) => void (arrive = () => resolve({ ...place, data: new Uint8Array(2) })));
    const lost = connection.call("step", { engine: "e", generation: 1 }, { tensors: [{ ...place, read: () => late }] });
    connection.lose("exit code 1");
    arrive();
    await expect(lost).rejects.toMatchObject({ code: "HOST_LOST" });
    expect(sent).toEqual([]);
  });
  it("gives a host's error as Failure with its code and evidence, and HOST_INTERNAL for a code that the table lacks", async () => {
    const { connection, answer } = wire();
    const known = connection.call("unload", { engine: "e" });
    answer({ id: 1, error: { code: -32010, message: "no engine", data: { code: "HOST_ENGINE_UNKNOWN", evidence: { engine: "e" } } } });
    await expect(known).rejects.toMatchObject({ code: "HOST_ENGINE_UNKNOWN", message: "no engine", evidence: { engine: "e" } });
    for (const error of [{ code: 1, message: "?", data: { code: "HOST_MADE_UP" } }, "text", { data: { code: "toString" } }]) {
      const { connection: other, answer: reply } = wire();
      const unknown = other.call("unload", { engine: "e" });
      reply({ id: 1, error });
      await expect(unknown).rejects.toMatchObject({ code: "HOST_INTERNAL" });
    }
  });
  it("takes an answer that does not fit its schema for HOST_GARBAGE, and believes nothing afterwards", async () => {
    const { connection, answer, broken } = wire();
    const bad = connection.call("commit", { engine: "e", token: "1" });
    const waiting = connection.call("status", {});
    answer({ id: 1, result: { ms: "soon" } });
    await expect(bad).rejects.toMatchObject({ code: "HOST_GARBAGE" });
    await expect(waiting).rejects.toMatchObject({ code: "HOST_GARBAGE" });
    await expect(connection.call("status", {})).rejects.toMatchObject({ code: "HOST_GARBAGE" });
    expect(broken).toHaveLength(1);
  });
  it("takes bytes that are not a frame, and a report that our frames are unreadable, for HOST_GARBAGE", async () => {
    const one = wire();
    const first = one.connection.call("status", {});
    one.connection.receive(new TextEncoder().encode("Traceback (most recent call last):".padEnd(80)));
    await expect(first).rejects.toMatchObject({ code: "HOST_GARBAGE" });
    expect(one.broken).toHaveLength(1);
    const two = wire();
    const second = two.connection.call("status", {});
    two.answer({ id: null, error: { code: -32700, message: "not a frame", data: { code: "HOST_MALFORMED_FRAME", evidence: {} } } });
    await expect(second).rejects.toMatchObject({ code: "HOST_GARBAGE" });
  });
  it("fails every call with HOST_LOST when the process is gone", async () => {
    const { connection } = wire();
    const call = connection.call("status", {});
    connection.lose("signal SIGKILL");
    await expect(call).rejects.toMatchObject({ code: "HOST_LOST", evidence: { reason: "signal SIGKILL" } });
    await expect(connection.call("status", {})).rejects.toMatchObject({ code: "HOST_LOST" });
    expect(connection.lost).toBe(true);
  });
  it("ends a host that is silent too long with HOST_TIMEOUT; progress counts as a sign of life", async () => {
    const { connection, answer, broken } = wire();
    const seen: number[] = [];
    const load = connection.call("status", {}, { timeoutMs: 1000, onProgress: ({ done }) => seen.push(done) });
    const outcome = expect(load).rejects.toMatchObject({ code: "HOST_TIMEOUT" });
    vi.advanceTimersByTime(900);
    answer({ method: "progress", params: { id: 1, stage: "weights", done: 5, total: 9 } });
    vi.advanceTimersByTime(900);
    expect(broken).toEqual([]);
    vi.advanceTimersByTime(100);
    await outcome;
    expect(seen).toEqual([5]);
    expect(broken).toEqual(["it did not answer status for 1000 ms"]);
  });
  it("asks the host to cancel and still takes its answer", async () => {
    const { connection, sent, answer } = wire();
    const controller = new AbortController();
    const call = connection.call("status", {}, { signal: controller.signal });
    controller.abort();
    expect(sent[1]?.message).toMatchObject({ method: "cancel", params: { id: 1 } });
    answer({ id: 2, result: {} });
    answer({ id: 1, error: { code: -32003, message: "cancelled", data: { code: "HOST_CANCELLED", evidence: {} } } });
    await expect(call).rejects.toMatchObject({ code: "HOST_CANCELLED" });
    const early = wire();
    void early.connection.call("status", {}, { signal: AbortSignal.abort() });
    expect(early.sent.map(({ message }) => message["method"])).toEqual(["status", "cancel"]);
  });
  it("passes log notifications on and ignores what it does not know", () => {
    const { answer, logs, broken } = wire();
    answer({ method: "log", params: { level: "warn", message: "low memory" } });
    answer({ method: "log", params: { level: "loud" } });
    answer({ method: "progress", params: {} });
    answer({ method: "gossip", params: {} });
    answer({ id: 77, result: {} });
    expect(logs).toEqual(["warn low memory"]);
    expect(broken).toEqual([]);
  });
  it("sends frames that any reader understands", () => {
    const parts: Uint8Array[] = [];
    const connection = new HostConnection({ write: (list) => parts.push(...list), onBroken: () => undefined, onLog: () => undefined });
    void connection.call("status", {});
    expect(decodeFrame(Buffer.concat(parts)).message).toEqual({ jsonrpc: "2.0", id: 1, method: "status", params: {} });
  });
});
