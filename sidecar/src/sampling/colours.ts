// A small picture of latents: colours as a sum of channels. In: latents, whose autoencoder they belong to. Out: bytes. The factors stand in protocol/autoencoders.

import { autoencoderTable, type Autoencoder } from "@refit-sidecar/protocol";

/** Channels that latents of that autoencoder have. */
export const channelsOf = (autoencoder: Autoencoder): number => autoencoderTable[autoencoder].colours.length;

/** `latents`: pictures, channels, sizes. Answers red, green and blue of each place: pictures, sizes, 3. */
export function coloursOf(latents: Float32Array, pictures: number, autoencoder: Autoencoder): Uint8ClampedArray {
  const channels = autoencoderTable[autoencoder].colours;
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
