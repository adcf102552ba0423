import { WebSocket } from "ws";
import { describe, expect, it } from "vitest";
import { versionsApart } from "../../../sidecar/src/wire/session/greeting.ts";
import { bearer, cleanUp, connect, latent, startFake, wanted, type Client, type Running } from "./support.ts";

async function greeted(): Promise<{ running: Running; client: Client }> {
  const running = await startFake();
  return { running, client: await connect(running) };
}

describe("a session", () => {
  it("greets, prepares, steps with conditioning by key and releases", async () => {
    const { running, client } = await greeted();
    const prepared = await client.call("engine.prepare", wanted);
    expect(prepared.result).toMatchObject({ lease: "l1", host: "onnxruntime" });
    // `wanted` is what earlier clients send: what means nothing any more never reaches the backend.
    const { profile: _profile, priority: _priority, ...meant } = wanted;
    expect(running.backend.seen["prepare"]).toEqual([meant]);
    expect((await client.call("conditioning.put", {}, [latent(700, 5, "k1")])).result).toEqual({ bytes: 700 });
    const stepped = await client.call("engine.step", { lease: "l1", use: { encoder_hidden_states: "k1" } }, [latent(64, 9)]);
    expect(stepped.tensors.map(({ name, data }) => [name, data.byteLength, data[0]])).toEqual([["out_sample", 64, 9]]);
    expect(running.backend.seen["step"]).toEqual([
      {
        lease: "l1",
        inputs: [
          { name: "sample", key: undefined, bytes: 64 },
          { name: "encoder_hidden_states", key: expect.any(String), bytes: 700 },
        ],
      },
    ]);
    expect((await client.call("conditioning.drop", { keys: ["k1"] })).result).toEqual({ bytes: 0 });
    expect((await client.call("engine.step", { lease: "l1", use: { encoder_hidden_states: "k1" } }, [latent(64, 9)])).code).toBe(
      "WIRE_CONDITIONING_UNKNOWN",
    );
    expect((await client.call("engine.step", { lease: "l1", use: { sample: "k1" } }, [latent(64, 9)])).code).toBe("STEP_INPUT_INVALID");
    expect((await client.call("engine.release", { lease: "l1" })).code).toBeNull();
    expect((await client.call("engine.release", { lease: "l1" })).code).toBe("WIRE_LEASE_UNKNOWN");
    expect((await client.call("engine.step", { lease: "l1" }, [latent(64, 9)])).code).toBe("WIRE_LEASE_UNKNOWN");
  });

  it("serves every other method of the table", async () => {
    const { client } = await greeted();
    const calls: [string, Record<string, unknown>][] = [
      ["ping", {}],
      ["catalog.list", { kind: "adapter" }],
      ["catalog.get", { id: "a1" }],
      ["adapter.find", { tensors: [{ dtype: "F16", shape: [1], sha256: "2".repeat(64) }] }],
      ["folders.list", {}],
      ["folders.add", { path: "/models/loras", kind: "adapters" }],
      ["folders.remove", { folder: "f1" }],
      ["watch.pause", {}],
      ["watch.resume", {}],
      ["engine.warm", { ...wanted, priority: undefined }],
      ["engine.list", {}],
      ["engine.refit", { engine: "e" }],
      ["engine.rebuild", { engine: "e" }],
      ["engine.free", { engine: null }],
      ["device.restart", { device: null }],
      ["jobs.list", {}],
      ["jobs.cancel", { job: "j1" }],
      ["jobs.pause", {}],
      ["jobs.resume", {}],
      ["events.subscribe", { topics: [] }],
      ["events.history", { topics: ["job"] }],
      ["memory.freed", { request: 1, bytes: 0 }],
      ["status", {}],
      ["cancel", { request: 999 }],
    ];
    for (const [method, params] of calls) expect([method, (await client.call(method, params)).code]).toEqual([method, null]);
    expect((await client.call("status")).result).toMatchObject({ clients: 1 });
    expect((await client.call("catalog.get", { id: "nobody" })).code).toBe("CATALOG_ENTRY_UNKNOWN");
  });

  it("says which of plugin and sidecar to update when they share no protocol version", () => {
    const hello = { protocolVersions: [1], client: { name: "comfyui", version: "0.1.0" }, capabilities: [] };
    expect(versionsApart(hello, [2, 3], "0.9.0").message).toBe(
      "expected protocol version 2 or 3, which sidecar 0.9.0 speaks; comfyui 0.1.0 speaks 1: update comfyui (it is the older side)",
    );
    expect(versionsApart({ ...hello, protocolVersions: [4] }, [2, 3], "0.9.0").message).toContain(
      'update the sidecar (it is the older side): "refit-sidecar stop", then "refit-sidecar update"',
    );
  });

  it("demands hello first, once, and in a version that both speak", async () => {
    const running = await startFake();
    const silent = await connect(running, bearer(running.discovery.token), [], null);
    expect((await silent.call("status")).code).toBe("WIRE_HELLO_REQUIRED");
    const hello = { protocolVersions: [1], client: { name: "test", version: "1" }, capabilities: ["events"] };
    expect((await silent.call("hello", { ...hello, protocolVersions: [7] })).code).toBe("WIRE_VERSION_UNSUPPORTED");
    expect((await silent.call("hello", { ...hello, protocolVersions: [7, 1] })).result).toMatchObject({
      protocolVersion: 1,
      role: "control",
      capabilities: ["events"],
      segments: null,
    });
    expect((await silent.call("hello", hello)).code).toBe("WIRE_HELLO_REPEATED");
  });

  it("drops a connection that never says hello", async () => {
    const running = await startFake({}, { helloMs: 20 });
    const silent = await connect(running, bearer(running.discovery.token), [], null);
    expect(await silent.closed).toEqual({ code: 4001, reason: "no hello" });
  });

  it("drops a client that answers no ping, and keeps one that does", async () => {
    const running = await startFake({}, { pingEveryMs: 15 });
    const dead = await connect(running, { ...bearer(running.discovery.token), autoPong: false });
    const alive = await connect(running);
    await dead.closed;
    expect((await alive.call("ping")).code).toBeNull();
    expect(running.server.clients()).toBe(1);
  });

  it("lets a read token read and nothing else", async () => {
    const running = await startFake();
    const reader = await connect(running, bearer(running.discovery.read_token));
    expect((await reader.call("status")).code).toBeNull();
    for (const [method, params] of [
      ["engine.prepare", wanted],
      ["folders.add", { path: "/x", kind: "adapters" }],
      ["adapter.push", { push: "p", last: true }],
      ["watch.pause", {}],
      ["engine.free", { engine: null }],
      ["device.restart", { device: null }],
    ] as const) {
      expect([method, (await reader.call(method, params)).code]).toEqual([method, "WIRE_ROLE"]);
    }
    expect(running.backend.seen["prepare"]).toEqual([]);
    expect(running.backend.seen["folders"]).toEqual([]);
  });

  it("names what is wrong with a call", async () => {
    const { client } = await greeted();
    const unknown = await client.call("engine.explode");
    expect([unknown.code, (unknown.message["error"] as { code: number }).code]).toEqual(["WIRE_METHOD_UNKNOWN", -32601]);
    expect((await client.call("constructor")).code).toBe("WIRE_METHOD_UNKNOWN");
    const bad = await client.call("engine.prepare", { ...wanted, stack: [{ adapter: "a1", strength: "strong" }] });
    expect(bad.code).toBe("WIRE_PARAMS_INVALID");
    expect((bad.message["error"] as { message: string }).message).toContain("params.stack.0.strength");
    expect((await client.call("status", {}, [latent(4, 1)])).code).toBe("WIRE_PARAMS_INVALID");
    expect(
      (await client.call("engine.step", { lease: "l1" }, [], [{ name: "sample", dtype: "u8", shape: [4], offset: 0, bytes: 4 }])).code,
    ).toBe("WIRE_TENSORS_MISPLACED");
  });

  it("shows neither paths nor its own mistakes", async () => {
    const { running, client } = await greeted();
    const failed = await client.call("engine.prepare", { ...wanted, checkpoint: "fail:CATALOG_FAILED" });
    expect(failed.code).toBe("CATALOG_FAILED");
    const thrown = await client.call("engine.prepare", { ...wanted, checkpoint: "throw" });
    expect(thrown.code).toBe("WIRE_INTERNAL");
    const hidden = await client.call("engine.prepare", { ...wanted, checkpoint: "fail:HOST_LOST" });
    expect((hidden.message["error"] as { data: object }).data).toMatchObject({ code: "ENGINE_FAILED", reason: "HOST_LOST" });
    const refused = await client.call("folders.add", { path: "/models/missing", kind: "adapters" });
    expect(refused.code).toBe("CATALOG_FOLDER_REFUSED");
    const told = JSON.stringify([failed.message, thrown.message, hidden.message, refused.message]) + running.logLines.join("");
    expect(told).not.toMatch(/somebody|secret models|\/models\/missing/);
    expect(running.logLines.join("")).toContain("unexpected: …/x.safetensors");
  });

  it("takes paths out of what other stages tell in events, history and lists", async () => {
    const { running, client } = await greeted();
    await client.call("events.subscribe", { topics: ["arrival"] });
    running.backend.emit({
      type: "arrival.refused",
      id: "a9",
      code: "READ_FAILED",
      message: "cannot read /home/somebody/my loras/x.safetensors: EACCES",
    });
    const heard = await client.heard((message) => message["method"] === "event");
    expect(heard["params"]).toMatchObject({ event: { message: "cannot read …/x.safetensors: EACCES" } });
    expect(JSON.stringify((await client.call("events.history", { topics: ["arrival"] })).result)).not.toContain("somebody");
  });

  it("reports progress of a call, thinned out but always with its end", async () => {
    const { client } = await greeted();
    await client.call("engine.prepare", wanted);
    const told = client.notifications.filter((message) => message["method"] === "progress").map((message) => message["params"]);
    expect(told.at(-1)).toEqual({ request: client.lastId(), stage: "delta", done: 3, total: 3, remainingMs: null, text: "" });
  });

  it("asks for memory and waits for the answer", async () => {
    const { running, client } = await greeted();
    const prepared = client.call("engine.prepare", { ...wanted, checkpoint: "room" });
    const asked = await client.heard((message) => message["method"] === "memory.wanted");
    expect(asked["params"]).toEqual({ request: client.lastId(), bytes: 1234 });
    await client.call("memory.freed", { request: client.lastId(), bytes: 1000 });
    expect((await prepared).code).toBeNull();
    expect(running.backend.seen["room"]).toEqual([1000]);
  });

  it("asks nobody for memory who did not offer it", async () => {
    const running = await startFake();
    const plain = await connect(running, bearer(running.discovery.token), [], { capabilities: ["events"] });
    expect((await plain.call("engine.prepare", { ...wanted, checkpoint: "room" })).code).toBeNull();
    expect(running.backend.seen["room"]).toEqual([0]);
  });

  it("sends events of the chosen topics only, and their history", async () => {
    const { running, client } = await greeted();
    await client.call("events.subscribe", { topics: ["refit"] });
    running.backend.emit({ type: "live.deleted", id: "a1", message: "" });
    running.backend.emit({ type: "refit.started", engine: "e", full: false, writes: 3 });
    const heard = await client.heard((message) => message["method"] === "event");
    expect(heard["params"]).toMatchObject({ event: { type: "refit.started" } });
    await client.call("events.subscribe", { topics: [] });
    running.backend.emit({ type: "refit.started", engine: "e", full: true, writes: 3 });
    await client.call("ping");
    expect(client.notifications.filter((message) => message["method"] === "event")).toHaveLength(1);
    const history = await client.call("events.history", { topics: ["refit"], limit: 1 });
    expect(history.result["events"]).toMatchObject([{ event: { type: "refit.started", full: true } }]);
  });
});

describe("cancel", () => {
  it("is answered at once, and the lease of a cancelled prepare is given back", async () => {
    const { running, client } = await greeted();
    const slow = client.call("engine.prepare", { ...wanted, checkpoint: "slow" });
    const request = client.lastId();
    expect((await client.call("cancel", { request })).result).toEqual({ cancelled: true });
    expect((await slow).code).toBe("WIRE_CANCELLED");
    expect((await client.call("cancel", { request })).result).toEqual({ cancelled: false });
    await client.call("ping");
    expect(running.backend.leases.size).toBe(0);
    expect(running.backend.seen["release"]).toEqual(["l1"]);
  });

  it("of a running step drops its late result and answers once", async () => {
    const { client } = await greeted();
    await client.call("engine.prepare", wanted);
    const step = client.call("engine.step", { lease: "l1" }, [
      latent(8, 1),
      { name: "delay_ms", dtype: "u8", shape: [2], data: new Uint8Array([60, 0]) },
    ]);
    await client.call("cancel", { request: client.lastId() });
    const answer = await step;
    expect([answer.code, answer.tensors]).toEqual(["WIRE_CANCELLED", []]);
    const next = await client.call("engine.step", { lease: "l1" }, [
      latent(8, 2),
      { name: "delay_ms", dtype: "u8", shape: [2], data: new Uint8Array([80, 0]) },
    ]);
    expect(next.tensors[0]!.data[0]).toBe(2);
    expect(client.orphans).toEqual([]);
  });

  it("of another session's call does nothing", async () => {
    const { running, client } = await greeted();
    const other = await connect(running);
    for (let turn = 0; turn < 5; turn += 1) await other.call("ping");
    const slow = other.call("engine.prepare", { ...wanted, checkpoint: "slow" });
    const request = other.lastId();
    expect((await client.call("cancel", { request })).result).toEqual({ cancelled: false });
    expect((await other.call("cancel", { request })).result).toEqual({ cancelled: true });
    expect((await slow).code).toBe("WIRE_CANCELLED");
  });
});

describe("sessions beside each other", () => {
  it("cannot use each other's leases and conditioning", async () => {
    const { running, client } = await greeted();
    const other = await connect(running);
    const { result } = await client.call("engine.prepare", wanted);
    await client.call("conditioning.put", {}, [latent(8, 1, "k")]);
    expect((await other.call("engine.step", { lease: result["lease"] }, [latent(8, 1)])).code).toBe("WIRE_LEASE_UNKNOWN");
    expect((await other.call("engine.release", { lease: result["lease"] })).code).toBe("WIRE_LEASE_UNKNOWN");
    await other.call("engine.prepare", wanted);
    expect((await other.call("engine.step", { lease: "l2", use: { context: "k" } }, [latent(8, 1)])).code).toBe(
      "WIRE_CONDITIONING_UNKNOWN",
    );
  });

  it("give back what they hold when they go", async () => {
    const { running, client } = await greeted();
    await client.call("engine.prepare", wanted);
    client.socket.terminate();
    await client.closed;
    const other = await connect(running);
    while (running.backend.leases.size > 0) await other.call("ping");
    expect(running.backend.seen["release"]).toEqual(["l1"]);
  });

  it("get a lease of a prepare that ends after they left returned", async () => {
    const { running, client } = await greeted();
    void client.call("engine.prepare", { ...wanted, checkpoint: "slow" });
    await client.call("ping");
    client.socket.terminate();
    const other = await connect(running);
    while (running.backend.seen["release"]!.length === 0) await other.call("ping");
    expect(running.backend.leases.size).toBe(0);
  });

  it("never get a reply that is another's: 40 clients, 25 steps each", async () => {
    const running = await startFake();
    const clients = await Promise.all(Array.from({ length: 40 }, () => connect(running)));
    let crossed = 0;
    await Promise.all(
      clients.map(async (client, index) => {
        const { result } = await client.call("engine.prepare", wanted);
        for (let turn = 0; turn < 25; turn += 1) {
          const { tensors } = await client.call("engine.step", { lease: result["lease"] }, [latent(256, (index * 25 + turn) % 251)]);
          if (tensors[0]!.data.some((byte) => byte !== (index * 25 + turn) % 251)) crossed += 1;
        }
      }),
    );
    expect([crossed, running.backend.seen["step"]!.length]).toEqual([0, 1000]);
  });
});

describe("limits of a session", () => {
  it("refuses a second call under an id that is not answered, and answers the first", async () => {
    const { client } = await greeted();
    const slow = client.call("engine.prepare", { ...wanted, checkpoint: "slow" });
    const id = client.lastId();
    client.socket.send(JSON.stringify({ jsonrpc: "2.0", id, method: "ping", params: {} }));
    expect((await slow).code).toBe("WIRE_ID_IN_USE");
    client.socket.send(JSON.stringify({ jsonrpc: "2.0", id: "c", method: "cancel", params: { request: id } }));
    expect(await client.heard((message) => message["id"] === id)).toMatchObject({ error: { data: { code: "WIRE_CANCELLED" } } });
  });

  it("refuses the 65th unanswered call, still takes a cancel, and serves again when one ends", async () => {
    const { client } = await greeted();
    const slow = Array.from({ length: 64 }, () => client.call("engine.prepare", { ...wanted, checkpoint: "slow" }));
    const first = client.lastId() - 63;
    expect((await client.call("ping")).code).toBe("WIRE_BUSY");
    expect((await client.call("cancel", { request: first })).result).toEqual({ cancelled: true });
    expect((await slow[0]!).code).toBe("WIRE_CANCELLED");
    let code: string | null = "WIRE_BUSY";
    while (code === "WIRE_BUSY") ({ code } = await client.call("ping"));
    expect(code).toBeNull();
  });

  it("refuses clients beyond the limit and takes them when one has gone", async () => {
    const running = await startFake({ maxClients: 2 });
    const first = await connect(running);
    await connect(running);
    await expect(connect(running)).rejects.toThrow("refused with 503");
    first.socket.close();
    await first.closed;
    await expect(connect(running)).resolves.toBeDefined();
  });

  it("ends sessions with a reason when the sidecar ends, and takes no more calls", async () => {
    const { running, client } = await greeted();
    await client.call("engine.prepare", wanted);
    await running.server.close();
    expect((await client.closed).code).toBe(1001);
    expect(running.backend.seen["release"]).toEqual(["l1"]);
    const late = new WebSocket(running.discovery.ws_url, bearer(running.discovery.token));
    cleanUp(() => late.terminate());
    await expect(new Promise((_, reject) => late.once("error", reject))).rejects.toThrow("ECONNREFUSED");
  });
});
