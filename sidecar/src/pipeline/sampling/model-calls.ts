// What a loop asks of an engine at one step: positive and negative conditioning in one call where they have one shape, as diffusers' pipelines do, else in two.

import type { FrameTensor } from "@refit-sidecar/protocol";
import type { StepTensor } from "../../host/index.ts";
import { guided } from "../../sampling/index.ts";
import type { LeaseReply } from "../../step/index.ts";
import { bytesAs, valuesOf } from "../float-tensors.ts";
import type { Condition, LoopInputs, Values } from "./inputs.ts";

export interface ModelCallParts {
  /** Names this loop's conditioning for ever: a host may keep it by that name. */
  readonly name: string;
  readonly inputs: LoopInputs;
  readonly cfg: number;
  /** Types of the inputs `sample` and `timestep`. */
  readonly dtypes: { readonly sample: FrameTensor["dtype"]; readonly timestep: FrameTensor["dtype"] };
  readonly step: (tensors: readonly StepTensor[]) => Promise<LeaseReply>;
}

export interface ModelCalls {
  readonly predict: (latents: Float32Array, time: number) => Promise<Float32Array>;
  /** In one step of the loop. */
  readonly perStep: 1 | 2;
}

const sameSizes = (one: Values, other: Values): boolean => one.shape.join() === other.shape.join();

/** One behind the other on the first axis. */
function joined(parts: readonly Values[]): Values {
  const values = new Float32Array(parts.reduce((sum, part) => sum + part.values.length, 0));
  let at = 0;
  for (const part of parts) {
    values.set(part.values, at);
    at += part.values.length;
  }
  const [first] = parts;
  return { values, shape: [parts.reduce((sum, { shape }) => sum + (shape[0] ?? 0), 0), ...(first?.shape.slice(1) ?? [])] };
}

/** Channels of the second behind those of the first, picture by picture. */
function behind(latents: Values, concat: Values): Values {
  const pictures = latents.shape[0] ?? 1;
  const [own, more] = [latents.values.length / pictures, concat.values.length / pictures];
  const values = new Float32Array(latents.values.length + concat.values.length);
  for (let index = 0; index < pictures; index += 1) {
    values.set(latents.values.subarray(index * own, (index + 1) * own), index * (own + more));
    values.set(concat.values.subarray(index * more, (index + 1) * more), index * (own + more) + own);
  }
  return { values, shape: [pictures, (latents.shape[1] ?? 0) + (concat.shape[1] ?? 0), ...latents.shape.slice(2)] };
}

export async function modelCalls({ name, inputs, cfg, dtypes, step }: ModelCallParts): Promise<ModelCalls> {
  const { positive, negative, concat, shape } = inputs;
  const tensors = (side: string, conditions: readonly Condition[]): Promise<StepTensor[]> =>
    Promise.all(
      conditions.map(async ({ name: input, dtype, shape: own, values }) => ({
        name: input,
        dtype,
        shape: own,
        data: await bytesAs(values, dtype),
        key: `${name}/${side}/${input}`,
      })),
    );
  const ask = async (conditions: readonly StepTensor[], sample: Values, time: number): Promise<Float32Array> => {
    const times = new Float32Array(sample.shape[0] ?? 1).fill(time);
    const reply = await step([
      { name: "sample", dtype: dtypes.sample, shape: sample.shape, data: await bytesAs(sample.values, dtypes.sample) },
      { name: "timestep", dtype: dtypes.timestep, shape: [times.length], data: await bytesAs(times, dtypes.timestep) },
      ...conditions,
    ]);
    return valuesOf(reply.tensors[0]);
  };
  const whole = (latents: Float32Array): Values => {
    const own = { shape, values: latents };
    return concat === null ? own : behind(own, concat);
  };

  if (negative === null) {
    const conditions = await tensors("positive", positive);
    return { perStep: 1, predict: (latents, time) => ask(conditions, whole(latents), time) };
  }
  const fitOneCall =
    positive.length === negative.length && positive.every((one, index) => one.isBatched && sameSizes(one, negative[index] as Condition));
  if (fitOneCall) {
    const both = await tensors(
      "both",
      positive.map((one, index) => ({ ...one, ...joined([negative[index] as Condition, one]) })),
    );
    return {
      perStep: 1,
      async predict(latents, time) {
        const sample = whole(latents);
        const answer = await ask(both, joined([sample, sample]), time);
        return guided(answer.subarray(latents.length), answer.subarray(0, latents.length), cfg);
      },
    };
  }
  const [forth, back] = [await tensors("positive", positive), await tensors("negative", negative)];
  return {
    perStep: 2,
    async predict(latents, time) {
      const sample = whole(latents);
      const against = await ask(back, sample, time);
      return guided(await ask(forth, sample, time), against, cfg);
    },
  };
}
