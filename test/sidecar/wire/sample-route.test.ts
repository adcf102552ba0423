// engine.sample on the wire: over HTTP and over a session, on a backend without engines.

import { describe, expect, it } from "vitest";
import type { FrameTensor } from "@refit-sidecar/protocol";
import { connect, startFake, type Running } from "./support.ts";

const latent = {
  name: "latent",
  dtype: "f32",
  shape: [1, 4, 2, 2],
  data: Buffer.from(Float32Array.from({ length: 16 }, (_, i) => i).buffer),
} as const;
const asked = { checkpoint: "c", stack: [], sampler: "euler", schedule: { steps: 3 }, seeds: [1] } as const;
const body = (more: object = {}) => JSON.stringify({ ...asked, tensors: [{ ...latent, data: latent.data.toString("base64") }], ...more });
const post = (running: Running, text: string, headers: Record<string, string> = {}) =>
  fetch(`${running.server.url}/sample`, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Bearer ${running.discovery.token}`, ...headers },
    body: text,
  });
const stepsOf = (running: Running): number => running.backend.seen["loopSteps"]?.length ?? 0;
const errorOf = async (reply: Response) =>
  [reply.status, ((await reply.json()) as { error: { data: { code: string }; message: string } }).error] as const;

describe("POST /sample", () => {
  it("answers latents in base64 with the result, or as a safetensors file", async () => {
    const running = await startFake();
    const reply = await post(running, body());
    expect(reply.status).toBe(200);
    const { tensors, ...result } = (await reply.json()) as { tensors: { name: string; data: string; shape: number[] }[]; steps: number };
    expect(result).toMatchObject({ steps: 3, seeds: [1], refits: { count: 0 } });
    expect(tensors).toEqual([{ name: "latents", dtype: "f32", shape: [1, 4, 2, 2], data: latent.data.toString("base64") }]);

    const file = Buffer.from(await (await post(running, body(), { accept: "application/octet-stream" })).arrayBuffer());
    const head = Number(file.readBigUInt64LE(0));
    expect(JSON.parse(file.subarray(8, 8 + head).toString())).toEqual({
      latents: { dtype: "F32", shape: [1, 4, 2, 2], data_offsets: [0, 64] },
    });
    expect(file.subarray(8 + head).equals(latent.data)).toBe(true);
  });

  it("refuses by the field, with the status of the fault", async () => {
    const running = await startFake();
    const short = { ...latent, data: latent.data.subarray(4).toString("base64") };
    const junk = { ...latent, data: `${latent.data.toString("base64").slice(0, -2)}!!` };
    for (const [text, status, code, said] of [
      [body({ schedule: { steps: 0 } }), 400, "WIRE_PARAMS_INVALID", "schedule"],
      [body({ unknown: 1 }), 400, "WIRE_PARAMS_INVALID", "unknown"],
      [body({ previews: { kind: "rgb" } }), 400, "WIRE_PARAMS_INVALID", "previews"],
      [body({ tensors: [short] }), 400, "WIRE_PARAMS_INVALID", "tensors.0.data: expected 64 bytes"],
      [body({ tensors: [junk] }), 400, "WIRE_PARAMS_INVALID", "tensors.0.data"],
      [body({ tensors: [] }), 400, "SAMPLE_INVALID", "latent"],
      ["[1,", 400, "WIRE_BODY_REFUSED", "what came is no JSON"],
      [body().replace('"seeds":[1]', '"seeds":[NaN]'), 400, "WIRE_BODY_REFUSED", "what came is no JSON (NaN"],
    ] as const) {
      const [got, error] = await errorOf(await post(running, text));
      expect([error.data.code, got]).toEqual([code, code === "WIRE_BODY_REFUSED" ? 415 : status]);
      expect(error.message).toContain(said);
    }
  });

  it("reads nothing of whoever may not ask", async () => {
    const running = await startFake();
    const large = body({ tensors: [{ ...latent, data: "A".repeat(2 ** 20) }] });
    expect((await errorOf(await post(running, large, { authorization: `Bearer ${running.discovery.read_token}` })))[1].data.code).toBe(
      "WIRE_ROLE",
    );
    expect((await post(running, large, { authorization: "Bearer x" })).status).toBe(401);
    expect((await post(running, large, { "content-type": "text/plain" })).status).toBe(415);
  });

  it("a connection that is closed ends its loop", async () => {
    const running = await startFake();
    const gone = new AbortController();
    const asking = fetch(`${running.server.url}/sample`, {
      method: "POST",
      headers: { "content-type": "application/json", authorization: `Bearer ${running.discovery.token}` },
      body: body({ cfg: 99, schedule: { steps: 500 } }),
      signal: gone.signal,
    });
    while (stepsOf(running) < 2) await new Promise((resolve) => setTimeout(resolve, 5));
    gone.abort();
    await expect(asking).rejects.toThrow();
    let before = -1;
    while (before !== stepsOf(running)) {
      before = stepsOf(running);
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    expect(stepsOf(running)).toBeLessThan(500);
  });
});

describe("engine.sample in a session", () => {
  it("takes tensors that came with it and those put before, each once", async () => {
    const running = await startFake();
    const client = await connect(running);
    const tensor: FrameTensor = { ...latent, data: new Uint8Array(latent.data) };
    await client.call("conditioning.put", {}, [{ ...tensor, name: "k" }]);
    const reply = await client.call("engine.sample", { ...asked, use: { latent: "k" } });
    expect(reply.tensors.map(({ name }) => name)).toEqual(["latents"]);
    expect(reply).toMatchObject({ result: { steps: 3 } });
    expect(running.backend.seen["sample"]?.at(-1)).toMatchObject({ tensors: [{ name: "latent" }] });
    expect((await client.call("engine.sample", { ...asked, use: { latent: "k" } }, [tensor])).code).toBe("SAMPLE_INVALID");
    expect((await client.call("engine.sample", { ...asked, use: { latent: "nothing" } })).code).toBe("WIRE_CONDITIONING_UNKNOWN");
  });
});
