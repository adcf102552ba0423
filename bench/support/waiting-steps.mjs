// Preloaded into embedded hosts by bench/ray-pool.mjs: each step takes REFIT_BENCH_CARD_MS longer, without a core, as one that a card computes. The wait is simulated.
import { setTimeout as pause } from "node:timers/promises";
import { InferenceSession } from "onnxruntime-node";

const ms = Number(process.env.REFIT_BENCH_CARD_MS);
const { run } = InferenceSession.prototype;
InferenceSession.prototype.run = async function (...given) {
  const outputs = await run.apply(this, given);
  await pause(ms);
  return outputs;
};
