// From a request's tensors to a loop's. In: tensors by name, the engine's ports. Out: latents and conditioning that fit, as numbers; everything that does not
// fit is refused before an engine is touched, by its name.

import type { FrameTensor } from "@refit-sidecar/protocol";
import { Failure } from "../../failure/index.ts";
import type { EngineSpec } from "../../refit/index.ts";
import { isFinite32 } from "../../sampling/index.ts";
import { elements } from "../../terms/index.ts";
import { portDtype } from "../answers/views.ts";
import { isFloat, valuesOf } from "../float-tensors.ts";
import type { Port, StepTable } from "../resolve/graphs.ts";

/** Latents of a loop are held a dozen times as numbers: 64 pictures of SDXL at 1024 squared are a quarter of this. */
const mostValues = 16 * 2 ** 20;

export interface Values {
  readonly shape: readonly number[];
  readonly values: Float32Array;
}

/** One input of the model, for every picture of the batch. */
export interface Condition extends Values {
  readonly name: string;
  readonly dtype: FrameTensor["dtype"];
  /** Its first axis counts pictures. */
  readonly isBatched: boolean;
}

export interface LoopInputs {
  /** Of the latents: pictures, channels, sizes. */
  readonly shape: readonly number[];
  readonly latent: Float32Array | null;
  readonly noise: Float32Array | null;
  /** Channels that the model takes behind those of the latents, the same at every step. */
  readonly concat: Values | null;
  readonly positive: readonly Condition[];
  /** null: not asked for. */
  readonly negative: readonly Condition[] | null;
}

export interface LoopNeeds {
  readonly table: Pick<StepTable, "inputs" | "outputs">;
  readonly precision: EngineSpec["precision"];
  readonly takes: (input: string) => boolean;
  readonly pictures: number;
  readonly size: readonly number[] | undefined;
  readonly wantsNegative: boolean;
}

const refuse = (message: string): Failure => new Failure("SAMPLE_INVALID", message, {});
const shown = (shape: readonly (number | string)[]): string => `[${shape.join(", ")}]`;

async function read(tensor: FrameTensor): Promise<Values> {
  if (!isFloat(tensor.dtype)) throw refuse(`${tensor.name}: expected f32, f16 or bf16, got ${tensor.dtype}`);
  const values = await valuesOf(tensor);
  if (!isFinite32(values)) throw refuse(`${tensor.name}: expected finite numbers, got NaN or infinity`);
  return { shape: tensor.shape, values };
}

/** Repeats what came for one picture. */
function forAll({ shape, values }: Values, pictures: number): Values {
  if (shape[0] === pictures) return { shape, values };
  const out = new Float32Array(values.length * pictures);
  for (let index = 0; index < pictures; index += 1) out.set(values, index * values.length);
  return { shape: [pictures, ...shape.slice(1)], values: out };
}

/** Fixed sizes must be the port's; the first axis counts pictures, or has one that stands for all. */
function fits(shape: readonly number[], wanted: readonly (number | string)[], pictures: number): boolean {
  return (
    shape.length === wanted.length &&
    shape.every((dim, axis) => {
      const own = wanted[axis];
      if (axis === 0 && own === "batch") return dim === pictures || dim === 1;
      return dim > 0 && (typeof own !== "number" || own === dim);
    })
  );
}

function sizesOf(channels: number, rank: number, { pictures, size }: LoopNeeds, given: readonly FrameTensor[]): readonly number[] {
  const [first] = given;
  const sizes = size ?? first?.shape.slice(2);
  if (sizes === undefined)
    throw refuse("size: expected the latents' size (height and width, before them frames for a video), or a tensor latent or noise");
  if (sizes.length !== rank - 2) throw refuse(`size: expected ${rank - 2} numbers for this model's latents, got ${sizes.length}`);
  const shape = [pictures, channels, ...sizes];
  if (elements(shape) > mostValues)
    throw refuse(`size: expected at most ${mostValues} numbers of latents in one request, got ${shown(shape)}`);
  for (const { name, shape: own } of given)
    if (!fits(own, ["batch", ...shape.slice(1)], pictures)) throw refuse(`${name}: expected ${shown(shape)}, got ${shown(own)}`);
  return shape;
}

/** Throws SAMPLE_INVALID. */
export async function readInputs(tensors: readonly FrameTensor[], needs: LoopNeeds): Promise<LoopInputs> {
  const { table, precision, takes, pictures, wantsNegative } = needs;
  const byName = new Map(tensors.map((tensor) => [tensor.name, tensor]));
  if (byName.size !== tensors.length) throw refuse("expected each tensor once, got a name twice");
  const sample = table.inputs.find(({ name }) => name === "sample");
  const [output] = table.outputs;
  const [channels, taken] = [output?.shape[1], sample?.shape[1]];
  if (output === undefined || typeof channels !== "number" || typeof taken !== "number" || table.outputs.length > 1)
    throw new Failure("ENGINE_UNSUPPORTED", "this model's latents are not one tensor of channels; run it step by step (engine.step)", {});

  const ports = table.inputs.filter(({ name }) => name !== "sample" && name !== "timestep" && takes(name));
  const known = new Set(["latent", "noise", "concat", ...ports.flatMap(({ name }) => [`positive.${name}`, `negative.${name}`])]);
  for (const name of byName.keys()) if (!known.has(name)) throw refuse(`${name}: expected one of ${[...known].join(", ")}`);

  const shape = sizesOf(
    channels,
    output.shape.length,
    needs,
    ["latent", "noise"].flatMap((name) => byName.get(name) ?? []),
  );
  const latents = async (name: string): Promise<Float32Array | null> => {
    const tensor = byName.get(name);
    return tensor === undefined ? null : forAll(await read(tensor), pictures).values;
  };

  const behind = taken - channels;
  const concat = byName.get("concat");
  const behindShape = [pictures, behind, ...shape.slice(2)];
  if (behind > 0 ? concat === undefined || !fits(concat.shape, ["batch", ...behindShape.slice(1)], pictures) : concat !== undefined)
    throw refuse(
      behind > 0
        ? `concat: expected ${shown(behindShape)}, which this model takes behind the latents, got ${concat === undefined ? "none" : shown(concat.shape)}`
        : "concat: expected none; this model takes the latents alone",
    );

  const condition = async ({ name, dtype, shape: wanted }: Port, tensor: FrameTensor): Promise<Condition> => {
    if (!fits(tensor.shape, wanted, pictures)) {
      const meant = wanted.map((axis, index) => (index === 0 && axis === "batch" ? pictures : axis));
      throw refuse(`${tensor.name}: expected ${shown(meant)}, got ${shown(tensor.shape)}`);
    }
    const isBatched = wanted[0] === "batch";
    const values = await read(tensor);
    return { name, dtype: portDtype(dtype, precision), isBatched, ...(isBatched ? forAll(values, pictures) : values) };
  };
  /** Every input that the model needs; the negative side may leave out what is alike on both. */
  const side = async (prefix: "positive" | "negative"): Promise<Condition[]> => {
    const given = ports.map(
      (port) =>
        [port, byName.get(`${prefix}.${port.name}`) ?? (prefix === "negative" ? byName.get(`positive.${port.name}`) : undefined)] as const,
    );
    const missing = given
      .filter(([{ optional }, tensor]) => optional !== true && tensor === undefined)
      .map(([{ name }]) => `${prefix}.${name}`);
    if (missing.length > 0) throw refuse(`expected the tensor ${missing.join(", ")}`);
    return Promise.all(given.flatMap(([port, tensor]) => (tensor === undefined ? [] : [condition(port, tensor)])));
  };
  if (wantsNegative && ![...byName.keys()].some((name) => name.startsWith("negative.")))
    throw refuse("cfg: expected tensors negative.NAME with a cfg other than 1");
  return {
    shape,
    latent: await latents("latent"),
    noise: await latents("noise"),
    concat: concat === undefined ? null : forAll(await read(concat), pictures),
    positive: await side("positive"),
    negative: wantsNegative ? await side("negative") : null,
  };
}
