// The output's tensors of one parameter: its values, and the helpers that its storage needs.

import type { Dtype, FloatDtype, TensorSource } from "@refit-sidecar/native";
import { blockPadding, helperStem, isMarkerOf } from "../storage/index.ts";
import type { Rounding } from "../storage/index.ts";
import { asBytes, changesShape } from "../terms/index.ts";
import type { Addend } from "../terms/index.ts";
import { fileOf } from "./base.ts";
import type { BaseModel } from "./base.ts";
import { formatName } from "./loss-report.ts";
import type { LossLedger } from "./loss-report.ts";
import { computeParameter } from "./parameter.ts";
import type { ParameterOutput } from "./parameter.ts";

/** What is said of the job when it is done. */
export interface Notes {
  readonly saturated: { parameter: string; values: number }[];
  readonly overflowed: { parameter: string; values: number; dtype: FloatDtype }[];
  readonly baseNotFinite: { tensor: string; values: number }[];
  readonly skipped: { parameter: string; reason: string }[];
  readonly loss: LossLedger;
  merged: number;
}

export interface PlannedParameter {
  readonly base: BaseModel;
  readonly name: string;
  /** Null keeps the way that the file stores it. */
  readonly dtype: FloatDtype | null;
  readonly addends: readonly Addend[];
  readonly rounding: Rounding;
  readonly notes: Notes;
  /** `file:key` of the base's tensors that the output has other bytes for, or leaves out. */
  readonly placed: Set<string>;
  readonly signal: AbortSignal | undefined;
}

/** Values are computed when the first of the tensors is asked for, and let go after the last. */
export async function parameterTensors(planned: PlannedParameter): Promise<TensorSource[]> {
  const { base, name, dtype, addends, notes, placed, signal } = planned;
  const place = base.source.parameters[name];
  if (place === undefined) throw new TypeError(`the base has no parameter ${name}`);
  const stored = base.stored.parameter(name, place.shape);
  let outcome: Promise<ParameterOutput> | null = null;
  const compute = async (): Promise<ParameterOutput> => {
    const output = await computeParameter({ name, stored, addends, dtype, rounding: planned.rounding, ...(signal ? { signal } : {}) });
    const { made, kept } = output.notFinite;
    if (made > 0) notes.overflowed.push({ parameter: name, values: made, dtype: output.dtype });
    if (output.saturated + made > 0) notes.saturated.push({ parameter: name, values: output.saturated + made });
    if (kept > 0) notes.baseNotFinite.push({ tensor: name, values: kept });
    const [piece] = place.pieces;
    if (output.loss !== null && piece !== undefined) notes.loss.add(name, output.loss, formatName(piece, dtype));
    for (const { reason } of output.skipped) notes.skipped.push({ parameter: name, reason });
    return output;
  };
  const merged = (): Promise<ParameterOutput> => (outcome ??= compute());
  // A pad changes the shape, and the header comes before the values: such a parameter (one or two in a file) is computed first.
  const shape = addends.some(({ term }) => changesShape(term)) ? (await merged()).shape : place.shape;
  if (addends.length > 0) notes.merged += 1;
  const tensors: TensorSource[] = [];
  let left = 0;
  const scaleBytes = new Map<string, Uint8Array>();
  /** Numbers of the scales outlive the codes: they are written at the end, and they are few. */
  const outputOf = async (index: number) => {
    const output = (await merged()).pieces[index];
    if (output === undefined) throw new TypeError(`no piece ${index} of ${name}`);
    const storage = output.piece.piece.storage;
    if (output.encoded !== null && storage !== undefined) {
      const { scale, scale2 } = output.encoded.scales;
      scaleBytes.set(storage.scale, scale instanceof Float32Array ? asBytes(scale) : scale);
      if (storage.scale2 !== undefined) scaleBytes.set(storage.scale2, asBytes(Float32Array.of(scale2)));
    }
    left -= 1;
    // Written for good: let the values go before the next parameter is computed.
    if (left === 0) outcome = null;
    return output;
  };
  place.pieces.forEach((piece, index) => {
    const { entries } = fileOf(base, piece.file).header;
    placed.add(`${piece.file}:${piece.key}`);
    left += 1;
    const whole = place.pieces.length === 1;
    const plainShape = whole ? shape : [piece.length, ...shape.slice(1)];
    const { storage } = piece;
    if (storage === undefined || dtype !== null) {
      tensors.push({ name: piece.key, dtype: dtype ?? piece.dtype, shape: plainShape, data: async () => (await outputOf(index)).data });
      if (storage !== undefined) dropHelpers(base, piece.file, piece.key, placed);
      return;
    }
    const padding = blockPadding(storage);
    const up = (count: number): number => Math.ceil(count / padding) * padding;
    const codesShape =
      shape === place.shape
        ? (entries.get(piece.key)?.shape ?? [])
        : storage.format === "scaled"
          ? plainShape
          : [up(plainShape[0] ?? 0), up(plainShape[1] ?? 0) / (storage.format === "nvfp4" ? 2 : 1)];
    tensors.push({ name: piece.key, dtype: piece.dtype, shape: codesShape, data: async () => (await outputOf(index)).data });
    const scale = entries.get(storage.scale);
    const rows = plainShape[0] ?? 1;
    const scaleShape =
      shape === place.shape || scale === undefined || scale.shape.length === 0
        ? (scale?.shape ?? [])
        : scale.shape[0] === 1
          ? scale.shape
          : storage.format === "scaled"
            ? [rows, ...scale.shape.slice(1)]
            : [Math.ceil(up(rows) / 128) * 128, Math.ceil(up(plainShape[1] ?? 0) / (storage.format === "nvfp4" ? 64 : 128)) * 4];
    late(storage.scale, storage.format === "scaled" ? "F32" : (scale?.dtype ?? "U8"), scaleShape);
    if (storage.scale2 !== undefined) late(storage.scale2, "F32", entries.get(storage.scale2)?.shape ?? []);
    function late(key: string, helperDtype: Dtype, helperShape: readonly number[]): void {
      placed.add(`${piece.file}:${key}`);
      tensors.push({
        name: key,
        dtype: helperDtype,
        shape: helperShape,
        ...(helperDtype === "F32" ? { late: true as const } : {}),
        data: () => {
          const bytes = scaleBytes.get(key);
          if (bytes === undefined) throw new TypeError(`${key} is asked for before its weight`);
          scaleBytes.delete(key);
          return bytes;
        },
      });
    }
  });
  return tensors;
}

/** A quantised weight that becomes a plain one leaves its helpers behind: the values hold the scales now. */
function dropHelpers(base: BaseModel, file: number, key: string, placed: Set<string>): void {
  const stem = key.slice(0, -".weight".length);
  for (const name of fileOf(base, file).header.entries.keys())
    if (helperStem(name) === stem || isMarkerOf(name, key)) placed.add(`${file}:${name}`);
}

/** Metadata of the output. What it says of quantised layers goes when they become plain ones. */
export function keptMetadata(base: BaseModel, converted: boolean): Readonly<Record<string, string>> {
  const { _quantization_metadata: described, ...rest } = base.files[0]?.header.metadata ?? {};
  if (described === undefined) return rest;
  if (!converted) return { ...rest, _quantization_metadata: described };
  const plain = new Set(
    Object.values(base.source.parameters).flatMap(({ pieces }) => pieces.map(({ key }) => key.replace(/\.weight$/, ""))),
  );
  const parsed = JSON.parse(described) as { readonly layers?: Readonly<Record<string, unknown>> };
  const layers = Object.fromEntries(
    Object.entries(parsed.layers ?? {}).filter(([layer]) => !plain.has(layer) && !plain.has(`model.diffusion_model.${layer}`)),
  );
  return Object.keys(layers).length === 0 ? rest : { ...rest, _quantization_metadata: JSON.stringify({ ...parsed, layers }) };
}
