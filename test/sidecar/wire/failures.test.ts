import { describe, expect, it } from "vitest";
import { Failure } from "../../../sidecar/src/failure/index.ts";
import { failureReply, holdsPath, logText, toWireFailure, withoutPaths } from "../../../sidecar/src/wire/failures.ts";

describe("toWireFailure", () => {
  it("passes a declared code with its text", () => {
    expect(toWireFailure(new Failure("ENGINE_UNKNOWN", "expected an engine of engine.list"))).toEqual({
      code: "ENGINE_UNKNOWN",
      message: "expected an engine of engine.list",
      reason: null,
    });
  });

  it("replaces a text that holds a path by the table's own", () => {
    const { message } = toWireFailure(new Failure("CATALOG_FAILED", "expected /home/me/my models/x.safetensors to be whole"));
    expect(message).toBe("A file in the catalog cannot be used.");
  });

  it.each([
    ["HOST_OUT_OF_MEMORY", "ENGINE_OUT_OF_MEMORY"],
    ["HOST_LOST", "ENGINE_FAILED"],
    ["REFIT_CHECKSUM_MISMATCH", "REFIT_FAILED"],
    ["CATALOG_FILE_CHANGED", "CATALOG_FAILED"],
    ["DELTA_CANCELLED", "WIRE_CANCELLED"],
    ["DELTA_DAMAGED", "DELTA_FAILED"],
    ["PLAN_PARAMETER_UNKNOWN", "PLAN_STACK_REFUSED"],
    ["STEP_RUN_CLOSED", "WIRE_LEASE_UNKNOWN"],
    ["NOBODY_KNOWS", "WIRE_INTERNAL"],
  ])("sends %s as %s and keeps the stage's code as the reason", (code, expected) => {
    expect(toWireFailure(new Failure(code as Failure["code"], "text"))).toMatchObject({ code: expected, reason: code });
  });

  it("says nothing about an unexpected error", () => {
    expect(toWireFailure(new TypeError("secret at /root/x"))).toEqual({
      code: "WIRE_INTERNAL",
      message: "The sidecar failed in a way that it did not expect.",
      reason: null,
    });
    expect(toWireFailure("text")).toMatchObject({ code: "WIRE_INTERNAL" });
    expect(toWireFailure(new DOMException("x", "AbortError"))).toMatchObject({ code: "WIRE_CANCELLED" });
  });

  it("does not let a stage's code smuggle text", () => {
    expect(toWireFailure(new Failure("HOST_ /etc/passwd" as Failure["code"], "x")).reason).toBeNull();
  });

  it("becomes a reply with number, fault and remedy", () => {
    expect(failureReply(7, toWireFailure(new Failure("HOST_LOST", "the host ended")))).toMatchObject({
      id: 7,
      error: { code: 6403, message: "the host ended", data: { code: "ENGINE_FAILED", reason: "HOST_LOST", fault: "host" } },
    });
  });
});

describe("holdsPath", () => {
  it.each([
    "/etc/passwd",
    "at /a/b",
    "(/a)",
    "'C:\\x'",
    "C:/x",
    "\\\\server\\share",
    "~/x",
    "open:/dev/shm/x",
    "file:///x",
    "=/root",
    "cause: ENOENT, open '/a b/c'",
  ])("finds one in %j", (text) => {
    expect(holdsPath(text)).toBe(true);
  });
  it.each(["expected 3/4 of it", "styles/ink.safetensors", "[1, 4] and 2", "a // b", "http://127.0.0.1:1/x", "1:2", "w1a / w1b", ""])(
    "finds none in %j",
    (text) => {
      expect(holdsPath(text)).toBe(false);
    },
  );
});

describe("withoutPaths", () => {
  it("keeps the last part of a path, spaces or not", () => {
    expect(withoutPaths("ENOENT, open '/home/some one/x y/file.bin'")).toBe("ENOENT, open '…/file.bin'");
    expect(withoutPaths("at C:\\Users\\me\\x.ts:3:4")).toBe("at …/x.ts:3:4");
    expect(withoutPaths("no path here")).toBe("no path here");
  });

  it("clears stack traces", () => {
    const text = logText(new Error("open '/root/secret/x'"));
    expect(text).toContain("…/x");
    expect(text).not.toMatch(/\/(root|work|home|tmp)\//);
    expect(text).toContain("failures.test.ts");
  });
});
