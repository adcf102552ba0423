import { describe, expect, it } from "vitest";
import { autoencoderTable, type Autoencoder } from "../../../protocol/src/index.ts";
import { channelsOf, coloursOf } from "../../../sidecar/src/sampling/index.ts";

const autoencoders = Object.keys(autoencoderTable) as Autoencoder[];

describe("coloursOf", () => {
  it.each(autoencoders)("%s: nothing is grey, more of a picture's colour is nearer to it, and pictures do not mix", (autoencoder) => {
    const channels = channelsOf(autoencoder);
    const places = 6;
    const latents = new Float32Array(3 * channels * places);
    // Of the second picture one channel is not nothing, of the third all are far out.
    latents.fill(0.5, channels * places, channels * places + places);
    latents.fill(1e9, 2 * channels * places, 2 * channels * places + places);
    const out = coloursOf(latents, 3, autoencoder);
    expect(out).toHaveLength(3 * places * 3);
    expect([...out.subarray(0, places * 3)]).toEqual(Array.from({ length: places * 3 }, () => 128));
    const colour = [...out.subarray(places * 3, places * 3 + 3)];
    expect(colour).not.toEqual([128, 128, 128]);
    expect([...out.subarray(places * 3, 2 * places * 3)]).toEqual(Array.from({ length: places }, () => colour).flat());
    expect([...out.subarray(2 * places * 3)].every((value) => value === 0 || value === 255)).toBe(true);
  });

  it("draws what is no number as black", () => {
    expect([...coloursOf(new Float32Array(4).fill(NaN), 1, "sd")]).toEqual([0, 0, 0]);
  });
});
