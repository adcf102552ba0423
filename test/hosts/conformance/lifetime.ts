import { describe, expect, it } from "vitest";
import { encodeFrame } from "../../../protocol/src/index.ts";
import type { HostCommand } from "../../../sidecar/src/host/index.ts";
import { startRawHost } from "../raw-host.ts";

/** How a host ends: on request, with its stdin, and on bytes that are not a frame. */
export function lifetime(command: HostCommand): void {
  describe("lifetime", () => {
    it("ends when its stdin ends", async () => {
      const host = startRawHost(command);
      await host.hello();
      host.endInput();
      expect(await host.ended).toEqual({ code: 0, signal: null });
    });
    it("ends when its stdin ends before it said anything", async () => {
      const host = startRawHost(command);
      host.endInput();
      expect((await host.ended).signal).toBeNull();
    });
    it("answers shutdown, then ends", async () => {
      const host = startRawHost(command);
      await host.hello();
      host.send({ jsonrpc: "2.0", id: 2, method: "shutdown", params: {} });
      expect((await host.next())?.message).toMatchObject({ id: 2, result: {} });
      expect(await host.ended).toEqual({ code: 0, signal: null });
    });
    it.each([
      ["text", new TextEncoder().encode("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".padEnd(80))],
      ["a frame of another version", encodeFrame({ a: 1 }).map((byte, index) => (index === 4 ? 9 : byte))],
      ["a header that is too large", encodeFrame({ a: 1 }).map((byte, index) => (index >= 8 && index < 12 ? 255 : byte))],
      ["a header that is not JSON", encodeFrame({ a: 1 }).map((byte, index) => (index === 64 ? 0x5b : byte))],
    ])("answers %s with HOST_MALFORMED_FRAME, then ends", async (_, bytes) => {
      const host = startRawHost(command);
      await host.hello();
      host.write(bytes);
      const frame = await host.next();
      expect(frame?.message).toMatchObject({ id: null, error: { code: -32700, data: { code: "HOST_MALFORMED_FRAME" } } });
      expect(await host.next()).toBeNull();
      expect((await host.ended).signal).toBeNull();
    });
    it("ends when its stdin ends inside a frame", async () => {
      const host = startRawHost(command);
      await host.hello();
      host.write(encodeFrame({ jsonrpc: "2.0", id: 2, method: "status" }).subarray(0, 100));
      host.endInput();
      expect((await host.ended).signal).toBeNull();
    });
  });
}
