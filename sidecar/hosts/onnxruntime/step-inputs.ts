import { native, type FloatDtype } from "@refit-sidecar/native";
import type { FrameTensor } from "@refit-sidecar/protocol";
import { elements } from "../../src/terms/index.ts";
import { hostFailure } from "./host-failure.ts";
import type { GraphInput, ReadyInput } from "./runner/messages.ts";
import type { WeightTable } from "./weight-table.ts";

const floats: Readonly<Record<string, FloatDtype>> = { f32: "F32", f16: "F16", bf16: "BF16" };

/** Inputs that a call has to bring: those of the graph that are not weights. Throws when the graph's weights are not those of the table. */
export function callInputs(inputs: readonly GraphInput[], table: WeightTable): ReadonlyMap<string, GraphInput> {
  const rest = new Map(inputs.map((input) => [input.name, input]));
  const wanted = table.dtype === "f32" ? "float32" : "float16";
  for (const layout of table.layouts.values()) {
    for (const { weight, shape } of layout.weights) {
      const input = rest.get(weight);
      if (input === undefined)
        throw hostFailure("HOST_GRAPH_INVALID", `the graph has no input ${weight}, which its refit map names; export the graph again`, {
          weight,
        });
      if (input.type !== wanted)
        throw hostFailure(
          "HOST_PRECISION_UNSUPPORTED",
          `expected weight ${weight} to be ${wanted} for ${table.dtype} weights, the graph variant has ${input.type}; load another variant`,
          { weight },
        );
      if (!fits(shape, input.shape))
        throw hostFailure(
          "HOST_GRAPH_INVALID",
          `weight ${weight}: the graph says [${input.shape.join(", ")}], its refit map [${shape.join(", ")}]; export the graph again`,
          { weight },
        );
      rest.delete(weight);
    }
  }
  return rest;
}

const fits = (shape: readonly number[], expected: readonly (number | string)[]): boolean =>
  shape.length === expected.length && expected.every((dimension, index) => typeof dimension === "string" || dimension === shape[index]);

/** Checks a call's tensors against the graph and converts floats to the type that it wants. Throws HOST_INPUT_INVALID. */
export async function readyInputs(tensors: readonly FrameTensor[], expected: ReadonlyMap<string, GraphInput>): Promise<ReadyInput[]> {
  const names = [...expected.keys()].join(", ");
  const missing = [...expected.keys()].filter((name) => !tensors.some((tensor) => tensor.name === name));
  if (missing.length > 0) throw hostFailure("HOST_INPUT_INVALID", `expected inputs ${names}; missing ${missing.join(", ")}`, { missing });
  return Promise.all(
    tensors.map((tensor) => {
      const input = expected.get(tensor.name);
      if (input === undefined)
        throw hostFailure("HOST_INPUT_INVALID", `expected inputs ${names}; got ${tensor.name}`, { name: tensor.name });
      return readyInput(tensor, input);
    }),
  );
}

async function readyInput({ name, dtype, shape, data }: FrameTensor, { type, shape: expected }: GraphInput): Promise<ReadyInput> {
  if (!fits(shape, expected))
    throw hostFailure("HOST_INPUT_INVALID", `expected input ${name} of shape [${expected.join(", ")}], got [${shape.join(", ")}]`, {
      name,
      expected,
      got: shape,
    });
  if (type === "int64" && dtype === "i64") return { name, type, shape, data: own(data) };
  if (type === "uint8" && dtype === "u8") return { name, type, shape, data: own(data) };
  const from = floats[dtype];
  if (from === undefined || (type !== "float32" && type !== "float16"))
    throw hostFailure("HOST_INPUT_INVALID", `expected input ${name} to be ${type}, got ${dtype}`, { name, expected: type, got: dtype });
  const to = type === "float32" ? "F32" : "F16";
  if (from === to) return { name, type, shape, data: own(data) };
  const count = elements(shape);
  const converted = new Uint8Array(count * (to === "F32" ? 4 : 2));
  await native.convert(data, from, converted, to, count);
  return { name, type, shape, data: converted };
}

/** A buffer of its own: tensors of a frame share one, and it moves to the step thread. */
const own = (data: Uint8Array): Uint8Array<ArrayBuffer> => new Uint8Array(data);
