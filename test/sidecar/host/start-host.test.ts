import { once } from "node:events";
import { spawn } from "node:child_process";
import { describe, expect, it } from "vitest";
import { startHost, type HostCommand } from "../../../sidecar/src/host/index.ts";
import { onnxruntimeHost } from "../../hosts/commands.ts";

const script = (source: string): HostCommand => ({ kind: "script", command: process.execPath, args: ["-e", source] });

/** Whether a process exists; asking does not harm it. */
function alive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

describe("startHost", () => {
  it("greets the host, keeps its log, and ends it on close", async () => {
    const lines: string[] = [];
    const host = await startHost(onnxruntimeHost(), { onLog: (line) => lines.push(line) });
    expect(host.about.kind).toBe("onnxruntime");
    expect(alive(host.pid)).toBe(true);
    expect(await host.close()).toMatchObject({ code: 0, signal: null, reason: null });
    expect(host.gone()).toBe(true);
    expect(alive(host.pid)).toBe(false);
  });
  it("kills a host that does not end when asked", async () => {
    const source = `
      const { encodeFrame, FrameReader } = await import(${JSON.stringify(new URL("../../../protocol/dist/index.js", import.meta.url).href)});
      const reader = new FrameReader();
      process.stdin.on("data", (chunk) => { for (const { message } of reader.push(chunk)) if (message.method === "hello") process.stdout.write(encodeFrame({ jsonrpc: "2.0", id: message.id, result: { protocolVersion: 1, kind: "stubborn", versions: {}, device: { type: "cpu", name: "x" }, precisions: ["f32"], memory: { totalBytes: 1, freeBytes: 1 } } })); });
      setInterval(() => {}, 1000);`;
    const host = await startHost(
      { kind: "stubborn", command: process.execPath, args: ["--input-type=module", "-e", source] },
      { closeTimeoutMs: 50 },
    );
    expect(await host.close()).toMatchObject({ reason: "it did not end when asked" });
    expect(alive(host.pid)).toBe(false);
  });
  it("does not wait for pipes that a grandchild holds open", async () => {
    const source = `const { pid } = require("node:child_process").spawn(process.execPath, ["-e", "setTimeout(() => {}, 60000)"], { stdio: "inherit" }); console.error(pid); process.exit(4);`;
    const failure: unknown = await startHost(script(source)).catch((error: unknown) => error);
    expect(failure).toMatchObject({ code: "HOST_START_FAILED", evidence: { code: 4 } });
    const grandchild = Number((failure as { readonly evidence: { readonly log: readonly string[] } }).evidence.log[0]);
    // Windows ends a child's children with it.
    expect(alive(grandchild)).toBe(process.platform !== "win32");
    if (process.platform !== "win32") process.kill(grandchild, "SIGKILL");
  });
  it("reports a program that does not exist as HOST_START_FAILED", async () => {
    await expect(startHost({ kind: "none", command: "there-is-no-such-program-3f1c", args: [] })).rejects.toMatchObject({
      code: "HOST_START_FAILED",
    });
  });
  it("reports a program that dies before hello as HOST_START_FAILED with its last words", async () => {
    const failure: unknown = await startHost(script("console.error('no GPU here'); process.exit(3)")).catch((error: unknown) => error);
    expect(failure).toMatchObject({ code: "HOST_START_FAILED", evidence: { code: 3, log: ["no GPU here"] } });
    expect((failure as Error).message).toContain("no GPU here");
  });
  it("reports a program that talks garbage, or nothing, as HOST_START_FAILED", async () => {
    await expect(startHost(script("console.log('hello, I am not a host'.padEnd(100)); setInterval(() => {}, 1000)"))).rejects.toMatchObject(
      { code: "HOST_START_FAILED" },
    );
    await expect(startHost(script("setInterval(() => {}, 1000)"), { helloTimeoutMs: 200 })).rejects.toMatchObject({
      code: "HOST_START_FAILED",
    });
  });
  it("fails pending calls with HOST_LOST when the host is killed", async () => {
    const host = await startHost(onnxruntimeHost());
    const pending = Promise.allSettled([host.call("status", {}), host.call("status", {})]);
    process.kill(host.pid, "SIGKILL");
    await host.ended;
    for (const outcome of await pending) if (outcome.status === "rejected") expect(outcome.reason).toMatchObject({ code: "HOST_LOST" });
    await expect(host.call("status", {})).rejects.toMatchObject({ code: "HOST_LOST" });
  });
  it("a host does not outlive its parent, however the parent ends", async () => {
    // Windows has no such signal; there the pipe closes in the same way when the process ends.
    const door = new URL("../../../sidecar/dist/src/host/index.js", import.meta.url).href;
    const source = `const { startHost } = await import(${JSON.stringify(door)}); const host = await startHost(${JSON.stringify(onnxruntimeHost())}); console.log(host.pid); setInterval(() => {}, 1000);`;
    const parent = spawn(process.execPath, ["--input-type=module", "-e", source], { stdio: ["ignore", "pipe", "inherit"] });
    const [line] = (await once(parent.stdout, "data")) as [Uint8Array];
    const pid = Number(new TextDecoder().decode(line));
    expect(alive(pid)).toBe(true);
    parent.kill("SIGKILL");
    await once(parent, "close");
    await expect.poll(() => alive(pid), { timeout: 10_000 }).toBe(false);
  });
});
