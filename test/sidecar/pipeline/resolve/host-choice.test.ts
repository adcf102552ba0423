import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { hostChoice } from "../../../../sidecar/src/pipeline/resolve/host-choice.ts";
import { autoHost, mayHaveCard, type HostPythons } from "../../../../sidecar/src/pipeline/resolve/hosts.ts";

const structure = "5".repeat(64);
const faster = { formatVersion: 1, structure, dtype: "f16", chosen: "tensorrt", tensorrtMs: 30, torchMs: 40, error: 0.001 };
let folder = "";
beforeEach(() => void (folder = mkdtempSync(join(tmpdir(), "refit-choice-"))));
afterEach(() => rmSync(folder, { recursive: true, force: true }));
const note = (value: unknown): void =>
  writeFileSync(join(folder, `choice-${structure.slice(0, 32)}-f16.json`), typeof value === "string" ? value : JSON.stringify(value));

describe("hostChoice", () => {
  it("is tensorrt only where its checked engine stepped faster than torch on this computer", () => {
    note(faster);
    expect(hostChoice(folder, structure, "f16")).toBe("tensorrt");
    expect(hostChoice(folder, structure, "bf16")).toBeNull();
    expect(hostChoice(folder, "6".repeat(64), "f16")).toBeNull();
    expect(hostChoice(null, structure, "f16")).toBeNull();
  });
  it.each([
    ["it was slower", { ...faster, tensorrtMs: 41 }, "torch"],
    ["its output was refused", { formatVersion: 1, structure, dtype: "f16", chosen: "torch", error: 0.5 }, "torch"],
    ["times are missing", { ...faster, torchMs: undefined }, "torch"],
    ["the note belongs to another structure whose name begins alike", { ...faster, structure: structure.slice(0, 63) + "6" }, null],
    ["the note is of a later format", { ...faster, formatVersion: 2 }, null],
    ["the note is cut short", JSON.stringify(faster).slice(0, 40), null],
    ["the note is far too long", JSON.stringify({ ...faster, more: "x".repeat(70_000) }), null],
  ])("is not when %s", (_, value, expected) => {
    note(value);
    expect(hostChoice(folder, structure, "f16")).toBe(expected);
  });
});

describe("autoHost", () => {
  const pythons =
    (...kinds: string[]): HostPythons =>
    (kind) =>
      kinds.includes(kind) ? { python: "/python", paths: [] } : null;
  const meant = (installed: HostPythons, winner: "torch" | "tensorrt" | null, card = true) =>
    autoHost("auto", { pythons: installed, card, winner: () => winner });
  it("means the embedded host without a GPU host, torch with one, tensorrt where that is installed and won", () => {
    expect(meant(pythons(), "tensorrt")).toBe("onnxruntime");
    expect(meant(pythons("torch"), "tensorrt")).toBe("torch");
    expect(meant(pythons("torch", "tensorrt"), null)).toBe("torch");
    expect(meant(pythons("torch", "tensorrt"), "torch")).toBe("torch");
    expect(meant(pythons("torch", "tensorrt"), "tensorrt")).toBe("tensorrt");
    expect(autoHost("torch", { pythons: pythons("torch", "tensorrt"), card: true, winner: () => "tensorrt" })).toBe("torch");
  });
  it("means the embedded host on a computer without a card, whatever is installed", () => {
    expect(meant(pythons("torch", "tensorrt"), "tensorrt", false)).toBe("onnxruntime");
    expect(autoHost("torch", { pythons: pythons("torch"), card: false })).toBe("torch");
  });
});

describe("mayHaveCard", () => {
  it.each([
    ["linux", "/dev/nvidiactl", true],
    ["linux", "/dev/kfd", true],
    ["linux", "/dev/dxg", true],
    ["linux", "/dev/dri", false],
    ["darwin", "/dev/nvidiactl", false],
  ] as const)("on %s with %s alone: %s", (platform, there, expected) => {
    expect(mayHaveCard(platform, (path) => path === there)).toBe(expected);
  });
  it("on Windows looks for the drivers' libraries", () => {
    expect(mayHaveCard("win32", (path) => path.endsWith("nvcuda.dll"))).toBe(true);
    expect(mayHaveCard("win32", () => false)).toBe(false);
  });
});
