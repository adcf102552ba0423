import { describe, expect, it } from "vitest";
import { findDevices } from "../../../../sidecar/src/pipeline/resolve/devices.ts";

const find = (text: string, { cards = 0, environment = [] as readonly string[], cores = 8 } = {}) =>
  findDevices({ text, environment, card: cards > 0, countCards: async () => cards, cores });

describe("findDevices", () => {
  it.each([
    ["auto", 0, [null]],
    ["auto", 1, [null]],
    ["auto", 4, ["0", "1", "2", "3"]],
    ["1", 4, ["1"]],
    ["0, 2", 4, ["0", "2"]],
    ["GPU-8f3c2a10-aaaa-bbbb-cccc-0123456789ab", 4, ["GPU-8f3c2a10-aaaa-bbbb-cccc-0123456789ab"]],
  ])("%s with %i cards", async (text, cards, expected) => {
    const devices = await find(text, { cards });
    expect([devices.of("torch"), devices.of("tensorrt"), devices.of("onnxruntime")]).toEqual([expected, expected, [null]]);
  });

  it("takes the cards that host-env lets hosts see", async () => {
    const devices = await find("auto", { cards: 4, environment: ["CUDA_VISIBLE_DEVICES=2,3"] });
    expect(devices.of("torch")).toEqual(["2", "3"]);
    expect((await find("auto", { cards: 4, environment: ["CUDA_VISIBLE_DEVICES=2"] })).of("torch")).toEqual([null]);
  });

  it("shows a host its card alone, and shares the processor's cores", async () => {
    expect((await find("0,1", { cards: 2 })).start("1")).toEqual({
      flags: ["--device", "cuda"],
      env: { CUDA_DEVICE_ORDER: "PCI_BUS_ID", CUDA_VISIBLE_DEVICES: "1" },
    });
    const cpu = await find("cpu:0,cpu:1");
    expect([cpu.of("torch"), cpu.of("onnxruntime"), cpu.of("tensorrt")]).toEqual([["cpu:0", "cpu:1"], ["cpu:0", "cpu:1"], [null]]);
    expect(cpu.start("cpu:1")).toEqual({ flags: ["--device", "cpu"], env: { OMP_NUM_THREADS: "4" } });
    const own = await find("cpu:0,cpu:1", { environment: ["OMP_NUM_THREADS=2"] });
    expect(own.start("cpu:1").env).toEqual({});
    expect(cpu.start(null)).toEqual({ flags: [], env: {} });
  });

  it.each([
    ["0,,1", "got"],
    ["gpu0", "got"],
    ["0,0", "named twice"],
    ["0,cpu:0", "do not mix"],
    ["-1", "got"],
  ])("refuses %s", async (text, why) => {
    await expect(find(text)).rejects.toMatchObject({ code: "OPTIONS_INVALID", message: expect.stringContaining(why) });
  });

  it("refuses cards that are named in two places", async () => {
    await expect(find("0,1", { environment: ["CUDA_VISIBLE_DEVICES=2,3"] })).rejects.toMatchObject({
      code: "OPTIONS_INVALID",
      message: expect.stringContaining("one place"),
    });
  });
});
