import { describe, expect, it } from "vitest";
import {
  errorTable,
  failure,
  notification,
  parseJsonObject,
  parseRpc,
  ProtocolError,
  request,
  success,
  type JsonObject,
} from "../../protocol/src/index.ts";

describe("parseRpc", () => {
  it("reads back what the builders make", () => {
    expect(parseRpc(request("a", "status", { x: 1 }))).toEqual({ kind: "request", id: "a", method: "status", params: { x: 1 } });
    expect(parseRpc(notification("progress", {}))).toEqual({ kind: "notification", method: "progress", params: {} });
    expect(parseRpc(success(0, null))).toEqual({ kind: "success", id: 0, result: null });
    const refused = parseRpc(failure(null, "RPC_INVALID"));
    expect(refused).toMatchObject({
      kind: "failure",
      id: null,
      error: { code: -32600, data: { code: "RPC_INVALID", fault: "client", remedy: errorTable.RPC_INVALID.remedy } },
    });
  });

  it("takes absent params for none", () => {
    expect(parseRpc({ jsonrpc: "2.0", id: 1, method: "status" })).toMatchObject({ params: {} });
  });

  it.each<[string, JsonObject]>([
    ["no version", { id: 1, method: "status" }],
    ["version 1", { jsonrpc: "1.0", id: 1, method: "status" }],
    ["a method that is no string", { jsonrpc: "2.0", id: 1, method: 7 }],
    ["an empty method", { jsonrpc: "2.0", id: 1, method: "" }],
    ["a method of 65 characters", { jsonrpc: "2.0", id: 1, method: "m".repeat(65) }],
    ["positional params", { jsonrpc: "2.0", id: 1, method: "status", params: [1] }],
    ["null params", { jsonrpc: "2.0", id: 1, method: "status", params: null }],
    ["a null id on a call", { jsonrpc: "2.0", id: null, method: "status" }],
    ["a fractional id", { jsonrpc: "2.0", id: 1.5, method: "status" }],
    ["an id of 65 characters", { jsonrpc: "2.0", id: "i".repeat(65), method: "status" }],
    ["an object as id", { jsonrpc: "2.0", id: {}, method: "status" }],
    ["nothing but an id", { jsonrpc: "2.0", id: 1 }],
    ["a result without an id", { jsonrpc: "2.0", result: 1 }],
    ["an error without a code", { jsonrpc: "2.0", id: 1, error: { message: "x" } }],
    ["an error that is text", { jsonrpc: "2.0", id: 1, error: "x" }],
  ])("refuses %s", (_name, message) => {
    expect(() => parseRpc(message)).toThrow(expect.objectContaining({ name: ProtocolError.name, code: "RPC_INVALID" }));
  });
});

describe("parseJsonObject", () => {
  it.each(["", "{", "[]", "null", "7", '"text"', "[".repeat(100_000)])("refuses %.20s", (text) => {
    expect(() => parseJsonObject(text)).toThrow(expect.objectContaining({ code: "WIRE_JSON_INVALID" }));
  });

  it("keeps a __proto__ in the text a plain key", () => {
    const value = parseJsonObject('{"__proto__":{"polluted":true}}');
    expect(Object.keys(value)).toEqual(["__proto__"]);
    expect("polluted" in {}).toBe(false);
  });
});

describe("errorTable", () => {
  it("gives every code its own number, a summary and a remedy, and never blames the client for ours", () => {
    const entries = Object.entries(errorTable);
    expect(new Set(entries.map(([, entry]) => entry.rpc)).size).toBe(entries.length);
    for (const [code, entry] of entries) {
      expect(code).toMatch(/^[A-Z]+(_[A-Z0-9]+)+$/);
      expect(entry.summary.endsWith(".") && entry.remedy.endsWith(".")).toBe(true);
      if (entry.rpc > 0) expect({ 4: "client", 5: "sidecar", 6: "host", 7: "file" }[Math.floor(entry.rpc / 1000)]).toBe(entry.fault);
    }
  });
});
