import { describe, expect, test } from "vitest";
import { chooseWheels, parseGpu, readRequirements, tensorrtSupport } from "../../../sidecar/src/install/host/index.ts";
import type { Gpu, PipSources, WheelSight } from "../../../sidecar/src/install/host/index.ts";

const nothing: PipSources = { indexUrl: null, extraIndexUrls: [], findLinks: [], noIndex: false };
const card = (capability: string, driver = "580.10"): Gpu => ({ name: "a card", capability, driver, memoryMib: 8192 });
const sight = (over: Partial<WheelSight> = {}): WheelSight => ({ platform: "linux", gpus: [], amd: false, sources: nothing, ...over });

describe("parseGpu", () => {
  test("reads nvidia-smi's line and refuses anything else", () => {
    expect(parseGpu("NVIDIA GeForce RTX 3060, 8.6, 572.83, 12288")).toEqual({
      name: "NVIDIA GeForce RTX 3060",
      capability: "8.6",
      driver: "572.83",
      memoryMib: 12288,
    });
    for (const line of ["", "No devices were found", "x, [N/A], 1, 1"]) expect(parseGpu(line)).toBeNull();
  });
});

describe("tensorrtSupport", () => {
  test.each(["7.5", "8.0", "8.6", "8.9", "12.0", "12.1"])("%s is served, by the packages for the driver's CUDA", (capability) => {
    expect(tensorrtSupport([card(capability)], "linux", "x64")).toMatchObject({ supported: true, cuda: "cu13" });
    expect(tensorrtSupport([card(capability, "572.83")], "win32", "x64")).toMatchObject({ supported: true, cuda: "cu12" });
  });
  test.each([
    ["no card", [], "linux", "x64", "no NVIDIA card"],
    ["a Hopper card", [card("9.0")], "linux", "x64", "does not know 9.0"],
    ["a card older than Turing", [card("6.1")], "linux", "x64", "6.1"],
    ["an old driver", [card("8.6", "470.1")], "linux", "x64", "update it"],
    ["another platform", [card("8.6")], "darwin", "arm64", "darwin on arm64"],
    ["another processor", [card("12.1")], "linux", "arm64", "arm64"],
  ] as const)("%s is refused with the reason", (_, gpus, platform, arch, text) => {
    expect(tensorrtSupport(gpus, platform, arch)).toMatchObject({ supported: false, reason: expect.stringContaining(text) as string });
  });
});

describe("chooseWheels", () => {
  test("by the card, and by what was asked", () => {
    expect(chooseWheels("auto", sight()).wheels).toBe("cpu");
    expect(chooseWheels("auto", sight({ gpus: [card("8.9")] })).wheels).toBe("cuda");
    expect(chooseWheels("cpu", sight({ gpus: [card("8.9")] })).wheels).toBe("cpu");
    expect(chooseWheels("auto", sight({ amd: true })).reason).toContain("ROCm");
    expect(chooseWheels("auto", sight({ amd: true, sources: { ...nothing, indexUrl: "https://example.invalid" } })).wheels).toBe("rocm");
  });
  test("never a CPU build in silence for a card on Windows, and no ROCm without a place for it", () => {
    expect(() => chooseWheels("auto", sight({ platform: "win32", gpus: [card("8.9")] }))).toThrow(/--reuse/);
    expect(() => chooseWheels("rocm", sight())).toThrow(/--index-url/);
    expect(() => chooseWheels("cuda", sight({ platform: "darwin" }))).toThrow(/macOS/);
    expect(
      chooseWheels("auto", sight({ platform: "win32", gpus: [card("8.9")], sources: { ...nothing, indexUrl: "https://example.invalid" } }))
        .wheels,
    ).toBe("cuda");
  });
});

test("the shipped requirements are pinned", async () => {
  for (const line of [...(await readRequirements("torch")), ...(await readRequirements("tensorrt", { cuda: "cu12" }))])
    expect(line).toMatch(/^[a-z0-9-]+==[0-9.]+( ;|$)/);
});
