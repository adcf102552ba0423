import { PNG } from "pngjs";
import { describe, expect, it } from "vitest";
import { classify, decode, gridPng, noiseOf, readDemoAssets, readReference, sample } from "../../../sidecar/src/demo/index.ts";

const assets = await readDemoAssets();
const { description } = assets;

describe("noiseOf", () => {
  it("gives the numbers that the training code gives", () => {
    for (const { seed, first } of description.noise.check) {
      const values = noiseOf(seed, 256);
      first.forEach((expected, index) => expect(values[index]).toBeCloseTo(expected, 6));
    }
  });

  it("is standard normal", () => {
    const values = noiseOf(3, 100_000);
    const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
    const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length;
    expect(mean).toBeCloseTo(0, 1);
    expect(variance).toBeCloseTo(1, 1);
  });
});

describe("sample", () => {
  it("calls the denoiser once per step, in the schedule's order, on finite latents", async () => {
    const timesteps: number[] = [];
    const latents = await sample(description, [0, 1], async (x, timestep) => {
      timesteps.push(timestep);
      return new Float32Array(x.length);
    });
    expect(timesteps).toEqual(description.sampler.steps.map((step) => step.timestep));
    expect(latents.every(Number.isFinite)).toBe(true);
  });
});

describe("decode and classify", () => {
  it("see sevens in the reference of only-sevens, and not only sevens in the base's", async () => {
    const reference = await readReference(description);
    const digits = (name: string) =>
      description.reference.seeds.map((_, index) => classify(assets.classifier, decode(description, reference.get(name)!, index)));
    expect(digits("only-sevens")).toEqual([7, 7, 7, 7]);
    expect(new Set(digits("base")).size).toBeGreaterThan(1);
  });
});

describe("gridPng", () => {
  it("places each picture, ink dark on light", () => {
    const size = description.picture.height * description.picture.width;
    const png = PNG.sync.read(gridPng(description, [new Float32Array(size).fill(1), new Float32Array(size).fill(-1)]));
    const at = (x: number, y: number) => png.data[(y * png.width + x) * 4];
    expect(at(10, 10)).toBe(0);
    expect(at(10 + description.picture.width * 4 + 4, 10)).toBe(255);
    expect(at(1, 1)).toBe(255);
  });
});
