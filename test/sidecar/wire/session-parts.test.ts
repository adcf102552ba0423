import { describe, expect, it } from "vitest";
import { createCalls } from "../../../sidecar/src/wire/session/calls.ts";
import { createConditioningStore } from "../../../sidecar/src/wire/session/conditioning.ts";
import { createOutbox, type OutSocket } from "../../../sidecar/src/wire/session/outbox.ts";
import { createMetrics, createLog } from "../../../sidecar/src/telemetry/index.ts";
import { wireMetrics } from "../../../sidecar/src/wire/metrics.ts";
import type { SessionState } from "../../../sidecar/src/wire/session/method-table.ts";
import { createSession } from "../../../sidecar/src/wire/session/session.ts";
import { latent } from "./support.ts";

const event = { atMs: 1, at: "now", event: { type: "live.deleted", id: "a", message: "" } } as const;

function fakeSocket() {
  const sent: string[] = [];
  const done: (() => void)[] = [];
  const socket = {
    bufferedAmount: 0,
    send: (data: string | Uint8Array, callback: () => void) => void (sent.push(String(data)), done.push(callback)),
  };
  return { socket: socket satisfies OutSocket, sent, flush: () => done.splice(0).forEach((callback) => callback()) };
}

describe("createOutbox", () => {
  it("leaves out events while the client lags and then says how many, but never a reply", () => {
    const { socket, sent, flush } = fakeSocket();
    const outbox = createOutbox(socket, { softBytes: 10, hardBytes: 100 }, () => expect.unreachable());
    outbox.event(event);
    socket.bufferedAmount = 11;
    outbox.event(event);
    outbox.event(event);
    outbox.send("reply");
    expect(sent).toHaveLength(2);
    flush();
    expect(sent).toHaveLength(2);
    socket.bufferedAmount = 0;
    outbox.send("reply");
    flush();
    expect(sent.at(-1)).toBe('{"jsonrpc":"2.0","method":"events.missed","params":{"missed":2}}');
    flush();
    expect(sent).toHaveLength(4);
  });

  it("has one preview under way, of those that wait the newest of each call, and none after the call's answer", () => {
    const { socket, sent, flush } = fakeSocket();
    const outbox = createOutbox(socket, { softBytes: 10, hardBytes: 100 }, () => expect.unreachable());
    const made: string[] = [];
    const offer = (call: number, text: string) => outbox.newest(call, () => (made.push(text), text));
    offer(1, "a1");
    for (const text of ["a2", "a3"]) offer(1, text);
    offer(2, "b1");
    expect(sent).toEqual(["a1"]);
    flush();
    expect(sent).toEqual(["a1", "a3"]);
    offer(1, "a4");
    outbox.forget(1);
    outbox.send("answer of 1");
    flush();
    expect(sent).toEqual(["a1", "a3", "answer of 1", "b1"]);
    // What was never sent was never made, and cost nothing.
    expect(made).toEqual(["a1", "a3", "b1"]);
    // Behind a client that lags a preview waits, until something of what it had not read is gone.
    flush();
    socket.bufferedAmount = 11;
    offer(2, "b2");
    offer(2, "b3");
    outbox.send("answer of 3");
    socket.bufferedAmount = 0;
    flush();
    expect(sent.slice(4)).toEqual(["answer of 3", "b3"]);
  });

  it("drops a client that does not read, once, and sends nothing more", () => {
    const { socket, sent } = fakeSocket();
    let dropped = 0;
    const outbox = createOutbox(socket, { softBytes: 10, hardBytes: 100 }, () => void (dropped += 1));
    socket.bufferedAmount = 100;
    outbox.send("a reply of any size");
    socket.bufferedAmount = 101;
    outbox.send("x");
    outbox.send("y");
    expect([sent.length, dropped]).toEqual([1, 1]);
  });
});

describe("createCalls", () => {
  it("refuses an id in use and more calls than allowed", () => {
    const calls = createCalls(2);
    calls.begin(1, 10);
    expect(() => calls.begin(1, 10)).toThrow(expect.objectContaining({ code: "WIRE_ID_IN_USE" }));
    calls.begin("1", 10);
    expect(() => calls.begin(3, 10)).toThrow(expect.objectContaining({ code: "WIRE_BUSY" }));
    expect(calls.bytes()).toBe(20);
  });

  it("counts a cancelled call until its work ends, and lets its id be used again", () => {
    const calls = createCalls(2);
    const first = calls.begin(1, 10);
    expect(calls.cancel(1)).toBe(true);
    expect(first.signal.aborted).toBe(true);
    expect(first.claimAnswer()).toBe(true);
    expect(calls.cancel(1)).toBe(false);
    const second = calls.begin(1, 5);
    expect(first.claimAnswer()).toBe(false);
    expect(() => calls.begin(2, 0)).toThrow(expect.objectContaining({ code: "WIRE_BUSY" }));
    first.end();
    first.end();
    expect(calls.bytes()).toBe(5);
    expect(second.claimAnswer()).toBe(true);
  });
});

describe("createConditioningStore", () => {
  const store = () => createConditioningStore({ sessionBytes: 100, totalBytes: 150, keys: 3 });

  it("keeps copies by session and key", () => {
    const shelf = store();
    const tensor = { ...latent(10, 1, "k"), data: Buffer.alloc(10, 1) };
    shelf.put("a", [tensor]);
    tensor.data.fill(9);
    expect(shelf.get("a", "k").data[0]).toBe(1);
    expect(() => shelf.get("b", "k")).toThrow(expect.objectContaining({ code: "WIRE_CONDITIONING_UNKNOWN" }));
  });

  it("names a content for ever: what is put again under the client's key is another one", () => {
    const shelf = store();
    shelf.put("a", [latent(10, 1, "k")]);
    const first = shelf.get("a", "k").key;
    expect(shelf.get("a", "k").key).toBe(first);
    shelf.put("a", [latent(10, 1, "k")]);
    expect(shelf.get("a", "k").key).not.toBe(first);
    shelf.put("b", [latent(10, 1, "k")]);
    expect(new Set([first, shelf.get("a", "k").key, shelf.get("b", "k").key]).size).toBe(3);
  });

  it("pushes out the least recently used of the session", () => {
    const shelf = store();
    shelf.put("a", [latent(40, 1, "k1")]);
    shelf.put("a", [latent(40, 1, "k2")]);
    shelf.get("a", "k1");
    expect(shelf.put("a", [latent(40, 1, "k3")])).toBe(80);
    expect(() => shelf.get("a", "k2")).toThrow();
    expect(shelf.get("a", "k1").data).toHaveLength(40);
  });

  it("replaces a key without counting it twice, and bounds keys", () => {
    const shelf = store();
    for (let turn = 0; turn < 5; turn += 1) shelf.put("a", [latent(90, turn, "k")]);
    expect(shelf.bytes()).toBe(90);
    for (const name of ["a", "b", "c", "d"]) shelf.put("b", [latent(1, 0, name)]);
    expect(() => shelf.get("b", "a")).toThrow();
  });

  it("takes room from the session that holds most when all hold too much", () => {
    const shelf = store();
    shelf.put("big", [latent(50, 1, "k1"), latent(50, 1, "k2")]);
    shelf.put("small", [latent(40, 1, "k")]);
    shelf.put("third", [latent(40, 1, "k")]);
    expect(() => shelf.get("big", "k1")).toThrow();
    expect(shelf.get("big", "k2").data).toHaveLength(50);
    expect(shelf.get("small", "k").data).toHaveLength(40);
    expect(shelf.bytes()).toBe(130);
  });

  it("refuses what can never fit, and forgets keys and sessions", () => {
    const shelf = store();
    expect(() => shelf.put("a", [latent(101, 1, "k")])).toThrow(expect.objectContaining({ code: "WIRE_CONDITIONING_TOO_LARGE" }));
    shelf.put("a", [latent(10, 1, "k1"), latent(10, 1, "k2")]);
    expect(shelf.drop("a", ["k1", "unknown"])).toBe(10);
    shelf.dropSession("a");
    expect(shelf.bytes()).toBe(0);
  });
});

describe("createSession", () => {
  it("takes no more calls while the sidecar ends", async () => {
    const { socket, sent } = fakeSocket();
    const state: SessionState = {
      id: "s1",
      role: "control",
      greeted: () => true,
      attach: () => undefined,
      end: async () => undefined,
      contextOf: () => expect.unreachable(),
      readSegment: () => expect.unreachable(),
      placeSegment: () => expect.unreachable(),
    };
    const bound = { role: "read", tensors: "none", takesPlaced: false, check: () => expect.unreachable() } as const;
    const session = createSession(
      state,
      { ping: bound },
      {
        socket: { ...socket, pause: () => undefined, resume: () => undefined, drop: () => expect.unreachable() },
        log: createLog("error", () => undefined),
        metrics: wireMetrics(createMetrics()),
        closing: () => true,
      },
    );
    await session.receive(new TextEncoder().encode('{"jsonrpc":"2.0","id":1,"method":"ping"}'), false);
    expect(JSON.parse(sent[0]!)).toMatchObject({ id: 1, error: { data: { code: "WIRE_SHUTTING_DOWN", fault: "sidecar" } } });
  });
});
