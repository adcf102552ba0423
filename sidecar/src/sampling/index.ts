// The denoising loop's own arithmetic: noise of a seed, schedules, samplers, guidance; and whose loop comes next. In: numbers and a model to ask. Out: latents.
// It must never know an engine, a file or a client: the same request gives the same numbers on every host.

export { Admission, type Admitted, type LoopRequest, type Priority } from "./admission.ts";
export { channelsOf, coloursOf } from "./colours.ts";
export { generatorOf, type Generator } from "./generator.ts";
export { drawn, firstLatents, guided, isFinite32, runLoop } from "./loop.ts";
export { pictureIn, samplerOf, type Sampler } from "./samplers.ts";
export { scheduleOf } from "./schedule.ts";
export { trainedNoise, trainedSteps } from "./trained-noise.ts";
export type { Prediction, SamplerName, Schedule, ScheduleRequest } from "./types.ts";
