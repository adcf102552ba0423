// A small picture of latents: colours as a sum of channels. In: latents, whose autoencoder they belong to. Out: bytes. The factors are fits of others (least squares of decoded
// pictures), as ComfyUI and InvokeAI publish them for their previews; -1 to 1 is black to full.

import type { FamilySampling } from "../terms/index.ts";

export type LatentSpace = NonNullable<FamilySampling["latents"]>;
type Colour = readonly [red: number, green: number, blue: number];

/** By channel. */
const factors: Readonly<Record<LatentSpace, readonly Colour[]>> = {
  sd: [
    [0.3512, 0.2297, 0.3227],
    [0.325, 0.4974, 0.235],
    [-0.2829, 0.1762, 0.2721],
    [-0.212, -0.2616, -0.7177],
  ],
  sdxl: [
    [0.3651, 0.4232, 0.4341],
    [-0.2533, -0.0042, 0.1068],
    [0.1076, 0.1111, -0.0362],
    [-0.3165, -0.2492, -0.2188],
  ],
  sd3: [
    [-0.05240681, 0.03251581, 0.0749016],
    [-0.0580572, 0.00759826, 0.05729818],
    [0.16144888, 0.01270368, -0.03768577],
    [0.14418615, 0.08460266, 0.15941818],
    [0.04894035, 0.0056485, -0.06686988],
    [0.05187166, 0.19222395, 0.06261094],
    [0.1539433, 0.04818359, 0.07103094],
    [-0.08601796, 0.09013458, 0.10893912],
    [-0.12398469, -0.06766567, 0.0033688],
    [-0.0439737, 0.07825329, 0.02258823],
    [0.03101129, 0.06382551, 0.07753657],
    [-0.01315361, 0.08554491, -0.08772475],
    [0.06464487, 0.05914605, 0.13262741],
    [-0.07863674, -0.02261737, -0.12761454],
    [-0.09923835, -0.08010759, -0.06264447],
    [-0.03392309, -0.0804029, -0.06078822],
  ],
  flux: [
    [-0.0412, 0.0149, 0.0521],
    [0.0056, 0.0291, 0.0768],
    [0.0342, -0.0681, -0.0427],
    [-0.0258, 0.0092, 0.0463],
    [0.0863, 0.0784, 0.0547],
    [-0.0017, 0.0402, 0.0158],
    [0.0501, 0.1058, 0.1152],
    [-0.0209, -0.0218, -0.0329],
    [-0.0314, 0.0083, 0.0896],
    [0.0851, 0.0665, -0.0472],
    [-0.0534, 0.0238, -0.0024],
    [0.0452, -0.0026, 0.0048],
    [0.0892, 0.0831, 0.0881],
    [-0.1117, -0.0304, -0.0789],
    [0.0027, -0.0479, -0.0043],
    [-0.1146, -0.0827, -0.0598],
  ],
};

/** Channels that latents of that space have. */
export const channelsOf = (space: LatentSpace): number => factors[space].length;

/** `latents`: pictures, channels, sizes. Answers red, green and blue of each place: pictures, sizes, 3. */
export function coloursOf(latents: Float32Array, pictures: number, space: LatentSpace): Uint8ClampedArray {
  const channels = factors[space];
  const places = latents.length / pictures / channels.length;
  const out = new Uint8ClampedArray(pictures * places * 3);
  for (let picture = 0; picture < pictures; picture += 1)
    for (let place = 0; place < places; place += 1) {
      let [red, green, blue] = [1, 1, 1];
      for (const [channel, factor] of channels.entries()) {
        const value = latents[(picture * channels.length + channel) * places + place] ?? 0;
        red += value * factor[0];
        green += value * factor[1];
        blue += value * factor[2];
      }
      const at = (picture * places + place) * 3;
      out[at] = red * 127.5;
      out[at + 1] = green * 127.5;
      out[at + 2] = blue * 127.5;
    }
  return out;
}
