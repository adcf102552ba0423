// `.trt_lora` files of TensorRT-Redux: safetensors with whole modified weights (not deltas) under ONNX names, at one baked strength.
// With their base they become W' - W; without it nothing can be said of them.
// Format read from the public source of sloptimize/TensorRT-Redux (`lib/lora_utils.py`, `nodes/export_lora.py`).

import type { FloatDtype, Kernels, TensorFile } from "@refit-sidecar/native";
import { dtypeBytes, isFloatDtype } from "@refit-sidecar/native";
import type { CheckpointSource } from "../../catalog/types.ts";
import { Failure } from "../../failure/index.ts";
import { CheckpointFiles, readValues } from "../../storage/index.ts";
import { deltaFormatVersion, type DeltaHeader, type Parameters, type Term } from "../../terms/index.ts";
import { factorName } from "../recognise/read-module.ts";
import type { DeltaRequest } from "../types.ts";
import { sourcesOf, totalBytes, type FactorSource } from "./factor-source.ts";
import type { PackedAdapter } from "./pack-adapter.ts";

export type OpenFile = (path: string) => Promise<TensorFile>;

export async function packRedux(
  file: TensorFile,
  request: Omit<DeltaRequest, "folder">,
  kernels: Kernels,
  openFile: OpenFile,
): Promise<PackedAdapter> {
  const { adapter, target, mode, base } = request;
  const { metadata, entries } = file.header;
  const strength = (metadata["lora_strength"] ?? "").slice(0, 20);
  if (!base) {
    throw new Failure(
      "DELTA_REDUX_NEEDS_BASE",
      `expected an adapter, got a TensorRT-Redux file: whole weights of a model with ${metadata["lora_file"] ?? "a LoRA"} baked in at strength ${strength}; use the LoRA itself, or pack the file together with the checkpoint that ${metadata["base_engine"] ?? "its engine"} was built from`,
      { loraFile: metadata["lora_file"], baseEngine: metadata["base_engine"], strength },
    );
  }
  const used: string[] = [];
  const failed: { key: string; reason: string }[] = [];
  const terms: Term[] = [];
  const factors: FactorSource[] = [];
  const baseFiles = new BaseFiles(base, openFile);
  for (const [key, entry] of entries) {
    const parameter = parameterOf(key, target.parameters);
    const problem = reduxProblem(parameter, entry, base, target.parameters);
    if (parameter === null || problem !== null) {
      failed.push({ key, reason: problem ?? "no parameter" });
      continue;
    }
    const name = factorName(factors.length);
    terms.push({ kind: "dense", value: name, target: { parameter }, sourceKeys: [key] });
    factors.push({ name, dtype: "F32", shape: entry.shape, key, bytes: () => difference(file, key, baseFiles, parameter, kernels) });
    used.push(key);
  }
  const problem: DeltaHeader["problem"] =
    terms.length === 0
      ? {
          code: "DELTA_NO_WEIGHT_CHANGES",
          message: `none of the ${entries.size} weights in the TensorRT-Redux file could be matched to a parameter: ${failed[0]?.reason ?? "it is empty"}`,
        }
      : null;
  const warnings = [
    `TensorRT-Redux file: differences to the given base, with ${metadata["lora_file"] ?? "a LoRA"} baked in at strength ${strength}; they are right only if the base is the one the file was made from`,
  ];
  const header: DeltaHeader = {
    formatVersion: deltaFormatVersion,
    adapter: adapter.sha256,
    structure: target.structure,
    family: target.family,
    mode,
    terms,
    sources: sourcesOf(factors),
    report: { used, ignored: [], failed },
    warnings,
    problem,
    bytes: totalBytes(factors),
  };
  return { header, factors, close: () => baseFiles.close() };
}

/** ONNX keeps parameter names behind the exported module's path; products renamed by the exporter cannot be told apart. */
function parameterOf(key: string, parameters: Parameters): string | null {
  const candidates = [
    key,
    ...["unet.", "model.", "diffusion_model.", "model.diffusion_model."]
      .filter((prefix) => key.startsWith(prefix))
      .map((prefix) => key.slice(prefix.length)),
  ];
  return candidates.find((candidate) => parameters.has(candidate)) ?? null;
}

function reduxProblem(
  parameter: string | null,
  entry: { readonly dtype: string; readonly shape: readonly number[] },
  base: CheckpointSource,
  parameters: Parameters,
): string | null {
  if (parameter === null) return "the exporter renamed this weight: nothing says which parameter it is";
  const shape = parameters.get(parameter) ?? [];
  if (shape.join() !== entry.shape.join())
    return `the weight has the shape [${entry.shape.join(", ")}], the parameter [${shape.join(", ")}]`;
  if (!["F16", "BF16", "F32", "F64"].includes(entry.dtype)) return `expected floating-point weights, got ${entry.dtype}`;
  return base.parameters[parameter] ? null : "the base lacks this parameter";
}

/** W' - W in f32. */
async function difference(file: TensorFile, key: string, base: BaseFiles, parameter: string, kernels: Kernels): Promise<Uint8Array> {
  const entry = file.header.entries.get(key);
  if (!entry || !isFloatDtype(entry.dtype)) throw new TypeError(`no floating-point tensor ${key}`);
  const modified = await toF32(await file.read(key), entry.dtype, kernels);
  const pristine = await base.read(parameter);
  for (let i = 0; i < modified.length; i += 1) modified[i] = (modified[i] ?? 0) - (pristine[i] ?? 0);
  return new Uint8Array(modified.buffer);
}

async function toF32(bytes: Uint8Array, dtype: FloatDtype, kernels: Kernels): Promise<Float32Array> {
  const count = bytes.byteLength / dtypeBytes[dtype];
  const values = new Float32Array(count);
  await kernels.convert(bytes, dtype, new Uint8Array(values.buffer), "F32", count);
  return values;
}

/** Pristine parameters of the base, files opened when first needed. */
class BaseFiles {
  readonly #source: CheckpointSource;
  readonly #openFile: OpenFile;
  #files: Promise<CheckpointFiles> | null = null;
  constructor(source: CheckpointSource, openFile: OpenFile) {
    this.#source = source;
    this.#openFile = openFile;
  }

  async read(parameter: string): Promise<Float32Array> {
    const place = this.#source.parameters[parameter];
    const strange = place?.pieces.find(({ dtype, storage }) => storage === undefined && !isFloatDtype(dtype));
    if (place === undefined || strange !== undefined) {
      throw new Failure(
        "DELTA_BASE_UNREADABLE",
        `expected floating-point values of ${parameter} in the base, got ${strange?.dtype ?? "none"}; give a base in f32, f16, bf16 or a quantised format`,
        { parameter },
      );
    }
    this.#files ??= CheckpointFiles.open(this.#source, this.#openFile);
    return readValues((await this.#files).parameter(parameter, place.shape));
  }

  async close(): Promise<void> {
    await (await this.#files)?.close();
  }
}
