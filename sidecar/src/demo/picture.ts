import { PNG } from "pngjs";
import type { DemoDescription, Layer } from "./assets.ts";

/** Latents of one picture to its pixels, -1 (ground) to 1 (ink), row-major: a fold of `fold` x `fold` pixels per latent cell. */
export function decode(description: DemoDescription, latents: Float32Array, index: number): Float32Array {
  const { height, width, fold, mean, deviation, contrast } = description.picture;
  const [channels, rows, columns] = description.latent.shape;
  const start = index * channels * rows * columns;
  const pixels = new Float32Array(height * width);
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      const channel = fold * (y % fold) + (x % fold);
      const latent = latents[start + (channel * rows + Math.floor(y / fold)) * columns + Math.floor(x / fold)] ?? 0;
      pixels[y * width + x] = Math.min(1, Math.max(-1, (latent * deviation + mean) * contrast));
    }
  }
  return pixels;
}

/** The digit that the committed classifier sees. */
export function classify(layers: readonly Layer[], pixels: Float32Array): number {
  let values = pixels;
  layers.forEach((layer, depth) => {
    const next = new Float32Array(layer.outputs);
    for (let row = 0; row < layer.outputs; row += 1) {
      let sum = layer.bias[row] ?? 0;
      for (let column = 0; column < layer.inputs; column += 1)
        sum += (layer.weight[row * layer.inputs + column] ?? 0) * (values[column] ?? 0);
      next[row] = depth < layers.length - 1 ? Math.max(0, sum) : sum;
    }
    values = next;
  });
  return values.indexOf(Math.max(...values));
}

/** Pixels are enlarged so that a grid of 16 x 16 pictures can be looked at. */
const enlarged = 4;
const gap = 4;

/** A PNG with the pictures side by side, `columns` in a row: dark ink on light ground. */
export function gridPng(description: DemoDescription, pictures: readonly Float32Array[]): Buffer {
  const { height, width } = description.picture;
  const { columns } = description.noise;
  const rows = Math.ceil(pictures.length / columns);
  const png = new PNG({ width: columns * (width * enlarged + gap) + gap, height: rows * (height * enlarged + gap) + gap, colorType: 0 });
  png.data.fill(255);
  pictures.forEach((pixels, index) => {
    const left = gap + (index % columns) * (width * enlarged + gap);
    const top = gap + Math.floor(index / columns) * (height * enlarged + gap);
    for (let y = 0; y < height * enlarged; y += 1) {
      for (let x = 0; x < width * enlarged; x += 1) {
        const ink = pixels[Math.floor(y / enlarged) * width + Math.floor(x / enlarged)] ?? -1;
        const grey = 255 - Math.round(ink * 127.5 + 127.5);
        png.data.fill(grey, ((top + y) * png.width + left + x) * 4, ((top + y) * png.width + left + x) * 4 + 3);
      }
    }
  });
  return PNG.sync.write(png, { colorType: 0 });
}
