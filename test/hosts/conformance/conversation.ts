import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { encodeFrame, hostErrors, hostMethods } from "../../../protocol/src/index.ts";
import type { HostCommand } from "../../../sidecar/src/host/index.ts";
import { startRawHost, type RawHost } from "../raw-host.ts";

/** The message layer: hello first, typed errors, one answer per request. */
export function conversation(command: HostCommand): void {
  describe("conversation", () => {
    let host: RawHost;
    beforeAll(() => void (host = startRawHost(command)));
    afterAll(async () => {
      host.endInput();
      await host.ended;
    });
    const ask = async (message: Record<string, unknown>) => {
      host.send({ jsonrpc: "2.0", ...message });
      return (await host.next())?.message;
    };
    const errorOf = (message: unknown) => {
      const { error } = message as {
        error?: { code: number; message: string; data: { code: keyof typeof hostErrors; evidence: unknown } };
      };
      if (error === undefined) throw new Error(`expected an error, got ${JSON.stringify(message)}`);
      expect(error.code).toBe(hostErrors[error.data.code].number);
      expect(error.message.length).toBeGreaterThan(20);
      expect(error.data.evidence).toBeTypeOf("object");
      return error.data.code;
    };

    it("refuses calls before hello with HOST_HELLO_REQUIRED", async () => {
      expect(errorOf(await ask({ id: 1, method: "status", params: {} }))).toBe("HOST_HELLO_REQUIRED");
    });
    it("refuses another protocol version with HOST_PROTOCOL_MISMATCH, and still wants a hello then", async () => {
      expect(errorOf(await ask({ id: 2, method: "hello", params: { protocolVersion: 999 } }))).toBe("HOST_PROTOCOL_MISMATCH");
      expect(errorOf(await ask({ id: 3, method: "status", params: {} }))).toBe("HOST_HELLO_REQUIRED");
    });
    it("answers hello with everything that the schema asks for", async () => {
      const message = await ask({ id: 4, method: "hello", params: { protocolVersion: 1 } });
      const result = hostMethods.hello.result.parse(message?.["result"]);
      expect(message).toMatchObject({ jsonrpc: "2.0", id: 4 });
      expect(result.precisions).toContain("f32");
      expect(result.kind).not.toBe("");
    });
    it("answers status of an empty host", async () => {
      const message = await ask({ id: 5, method: "status" });
      expect(hostMethods.status.result.parse(message?.["result"]).engines).toEqual([]);
    });
    it("names an unknown method", async () =>
      expect(errorOf(await ask({ id: 6, method: "toString", params: {} }))).toBe("HOST_UNKNOWN_METHOD"));
    it.each([
      ["a number instead of params", "load", 5],
      ["no engine", "load", {}],
      ["a negative generation", "step", { engine: "e", generation: -1 }],
      [
        "an unknown weight dtype",
        "load",
        { engine: "e", graph: null, weightDtype: "f8", checkpoint: { files: [], parameters: {} }, stack: [] },
      ],
      [
        "neither graph nor parameters",
        "load",
        { engine: "e", graph: null, weightDtype: "f32", checkpoint: { files: [], parameters: {} }, stack: [] },
      ],
    ])("refuses %s with HOST_INVALID_PARAMS", async (_, method, params) => {
      expect(errorOf(await ask({ id: 7, method, params }))).toBe("HOST_INVALID_PARAMS");
    });
    it.each([
      ["no id", { method: "status" }],
      ["no method", { id: 8 }],
      ["another version of JSON-RPC", { jsonrpc: "1.0", id: 8, method: "status" }],
    ])("refuses a message with %s as HOST_INVALID_REQUEST", async (_, message) => {
      expect(errorOf(await ask(message))).toBe("HOST_INVALID_REQUEST");
    });
    it.each(["prepare", "commit", "discard", "step", "readBack", "checksums", "unload", "offload"] as const)(
      "%s of an engine that is not loaded is HOST_ENGINE_UNKNOWN",
      async (method) => {
        const params = {
          engine: "nobody",
          generation: 1,
          token: "t",
          parameters: [],
          checkpoint: { files: [], parameters: {} },
          stack: [],
          plan: { from: null, to: { checkpoint: "x", stack: [] }, full: true, writes: [] },
        };
        expect(errorOf(await ask({ id: 9, method, params }))).toBe("HOST_ENGINE_UNKNOWN");
      },
    );
    it("cancel of a finished call is answered and changes nothing", async () => {
      expect(await ask({ id: 10, method: "cancel", params: { id: 4 } })).toMatchObject({ id: 10, result: {} });
    });
    it("understands frames that arrive in pieces and several at a time", async () => {
      const one = encodeFrame({ jsonrpc: "2.0", id: 11, method: "status", params: {} });
      const two = encodeFrame({ jsonrpc: "2.0", id: 12, method: "status", params: {} });
      host.write(one.subarray(0, 7));
      host.write(one.subarray(7, 70));
      host.write(Buffer.concat([one.subarray(70), two, one.subarray(0, 0)]));
      const ids = [(await host.next())?.message["id"], (await host.next())?.message["id"]];
      expect(ids.sort()).toEqual([11, 12]);
    });
  });
}
