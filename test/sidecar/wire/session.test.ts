import { describe, expect, it } from "vitest";
import { connect, latent, startFake, wanted } from "./support.ts";

describe("a session", () => {
  it("greets, prepares, steps with conditioning by key and releases", async () => {
    const running = await startFake();
    const client = await connect(running);
    const prepared = await client.call("engine.prepare", wanted);
    expect(prepared.result).toMatchObject({ lease: "l1", host: "onnxruntime" });
    expect(running.backend.seen["prepare"]).toEqual([wanted]);
    expect((await client.call("conditioning.put", {}, [latent(700, 5, "k1")])).result).toEqual({ bytes: 700 });
    const stepped = await client.call("engine.step", { lease: "l1", use: { encoder_hidden_states: "k1" } }, [latent(64, 9)]);
    expect(stepped.tensors.map(({ name, data }) => [name, data.byteLength, data[0]])).toEqual([["out_sample", 64, 9]]);
    expect(running.backend.seen["step"]).toEqual([{ lease: "l1", inputs: [{ name: "sample", key: undefined, bytes: 64 }, { name: "encoder_hidden_states", key: "s1/k1", bytes: 700 }] }]);
    expect((await client.call("engine.release", { lease: "l1" })).code).toBeNull();
    expect((await client.call("engine.release", { lease: "l1" })).code).toBe("WIRE_LEASE_UNKNOWN");
  });
});
