import type { FrameTensor } from "@refit-sidecar/protocol";
import { Tensor, type InferenceSession } from "onnxruntime-node";
import { sha256 } from "../checksum.ts";
import { hostFailure } from "../host-failure.ts";
import { exchangeHalves, type ParameterLayout } from "../refit-map.ts";
import { elementBytes, type HeldDtype } from "../weight-table.ts";
import type { GraphInput, NamedBuffer, ReadyInput, SessionName } from "./messages.ts";
import { toFrame, toTensor } from "./tensors.ts";

/**
 * Live weights of one engine and the sessions that read them. ONNX Runtime does not copy a tensor that is passed as an input, so a step reads these buffers as
 * they are; tensors over them are made again after every swap.
 */
export class HeldEngine {
  readonly #dtype: HeldDtype;
  readonly #layouts: ReadonlyMap<string, ParameterLayout>;
  readonly #buffers = new Map<string, Uint8Array<ArrayBuffer>>();
  readonly #sessions = new Map<SessionName, InferenceSession>();
  #weights: Record<string, Tensor> | null = null;

  constructor(dtype: HeldDtype, layouts: readonly ParameterLayout[]) {
    this.#dtype = dtype;
    this.#layouts = new Map(layouts.map((layout) => [layout.name, layout]));
  }

  /** Takes a session over; answers what it wants to be given. */
  open(name: SessionName, session: InferenceSession): GraphInput[] {
    this.#sessions.set(name, session);
    return session.inputMetadata.flatMap((input) => (input.isTensor ? [{ name: input.name, type: input.type, shape: input.shape }] : []));
  }

  swap(buffers: readonly NamedBuffer[]): NamedBuffer[] {
    const replaced: NamedBuffer[] = [];
    for (const [parameter, buffer] of buffers) {
      const old = this.#buffers.get(parameter);
      if (old !== undefined) replaced.push([parameter, old]);
      this.#buffers.set(parameter, buffer);
    }
    this.#weights = null;
    return replaced;
  }

  /** Makes the tensors of the next step, when every weight is here. */
  bind(): void {
    if (this.#buffers.size === this.#layouts.size) this.#weights ??= this.#tensors();
  }

  take(parameters: readonly string[]): NamedBuffer[] {
    const taken = parameters.map((parameter): NamedBuffer => [parameter, this.#held(parameter).buffer]);
    for (const parameter of parameters) this.#buffers.delete(parameter);
    this.#weights = null;
    return taken;
  }

  read(parameters: readonly string[]): NamedBuffer[] {
    return parameters.map((parameter) => {
      const { layout, buffer } = this.#held(parameter);
      const copy = buffer.slice();
      exchangeHalves(layout, copy, elementBytes[this.#dtype]);
      return [parameter, copy];
    });
  }

  checksums(parameters: readonly string[]): Record<string, string> {
    return Object.fromEntries(
      parameters.map((parameter) => {
        const { layout, buffer } = this.#held(parameter);
        return [parameter, sha256(layout, buffer, elementBytes[this.#dtype])];
      }),
    );
  }

  /** One call; blocks this thread until it is done. Throws HOST_STEP_FAILED. */
  async run(name: SessionName, inputs: readonly ReadyInput[]): Promise<FrameTensor[]> {
    const session = this.#sessions.get(name);
    if (session === undefined) throw new TypeError(`session ${name} was not opened`);
    this.#weights ??= this.#tensors();
    let outputs: InferenceSession.OnnxValueMapType;
    try {
      outputs = await session.run({ ...this.#weights, ...Object.fromEntries(inputs.map((input) => [input.name, toTensor(input)])) });
    } catch (cause) {
      throw hostFailure("HOST_STEP_FAILED", `ONNX Runtime could not run the step: ${reasonOf(cause)}`, {}, cause);
    }
    return session.outputNames.map((output) => toFrame(output, outputs[output]));
  }

  #tensors(): Record<string, Tensor> {
    const weights: Record<string, Tensor> = {};
    for (const layout of this.#layouts.values()) {
      const { buffer } = this.#held(layout.name).buffer;
      for (const { weight, shape, startElement, elements } of layout.weights) {
        weights[weight] =
          this.#dtype === "f32"
            ? new Tensor("float32", new Float32Array(buffer, startElement * 4, elements), shape)
            : new Tensor("float16", new Uint16Array(buffer, startElement * 2, elements), shape);
      }
    }
    return weights;
  }

  #held(parameter: string): { layout: ParameterLayout; buffer: Uint8Array<ArrayBuffer> } {
    const layout = this.#layouts.get(parameter);
    const buffer = this.#buffers.get(parameter);
    if (layout === undefined || buffer === undefined) throw new TypeError(`parameter ${parameter} has no weights here`);
    return { layout, buffer };
  }

  async close(): Promise<void> {
    this.#weights = null;
    this.#buffers.clear();
    for (const session of this.#sessions.values()) await session.release();
  }
}

export const reasonOf = (cause: unknown): string => (cause instanceof Error ? cause.message : String(cause));
