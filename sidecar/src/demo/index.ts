// The demo's own arithmetic: noise, inputs of a step, sampler, decoder, classifier, picture. In: the files of sidecar/demo. Out: latents, digits, PNGs.
// Knows nothing of engines: a denoiser call is handed in.

export { demoFolder, readDemoAssets, readReference } from "./assets.ts";
export type { DemoAssets, DemoDescription, DemoLora, Layer } from "./assets.ts";
export { stepInputs } from "./inputs.ts";
export { noiseOf } from "./noise.ts";
export { classify, decode, gridPng } from "./picture.ts";
export { sample } from "./sampler.ts";
export type { Denoise } from "./sampler.ts";
