// A delta file is written in one pass: factors stream through, their checksums follow as the last tensor.

import { dtypeBytes, writeSafetensors, type FloatDtype, type Kernels } from "@refit-sidecar/native";
import {
  checksSize,
  checksTensorName,
  deltaMetadataKey,
  elements,
  encodeChecks,
  encodeDeltaHeader,
  factorCrc,
  type DeltaHeader,
  type FactorCheck,
} from "../../terms/index.ts";
import type { FactorSource } from "./factor-source.ts";
import { ReadAhead } from "./read-ahead.ts";

export interface WrittenDelta {
  readonly fileBytes: number;
  /** Keys of the adapter whose values include NaN or Inf. */
  readonly nonFinite: readonly string[];
}

/** Temp file, rename: a reader sees a whole delta or none. `extra` metadata stands beside the header (exports); `durable: false` for the cache, whose files are verified before use. */
export async function writeDelta(
  path: string,
  header: DeltaHeader,
  factors: readonly FactorSource[],
  kernels: Kernels,
  options: { readonly extra?: Readonly<Record<string, string>>; readonly signal?: AbortSignal; readonly durable?: boolean } = {},
): Promise<WrittenDelta> {
  const checks = new Map<string, FactorCheck>();
  const metadata = { ...options.extra, ...encodeDeltaHeader(header) };
  // The writer's order: widest elements first, then by name.
  const inOrder = [...factors].sort((a, b) => dtypeBytes[b.dtype] - dtypeBytes[a.dtype] || (a.name < b.name ? -1 : 1));
  const ahead = new ReadAhead(
    inOrder.map(({ dtype, shape, bytes }) => {
      const count = elements(shape);
      const load = async (): Promise<{ data: Uint8Array; finite: boolean }> => {
        const data = await bytes();
        return { data, finite: await isFinite(data, dtype, count, kernels) };
      };
      return { size: count * dtypeBytes[dtype], load };
    }),
  );
  const tensors = inOrder.map(({ name, dtype, shape }, index) => ({
    name,
    dtype,
    shape,
    data: async (): Promise<Uint8Array> => {
      const { data, finite } = await ahead.take(index);
      checks.set(name, { crc: factorCrc(data), finite });
      return data;
    },
  }));
  const table = {
    name: checksTensorName,
    dtype: "U8" as const,
    shape: [checksSize(factors.length)],
    data: () => encodeChecks(checks, metadata[deltaMetadataKey] ?? ""),
  };
  const { sizeBytes } = await writeSafetensors(path, [...tensors, table], metadata, {
    durable: options.durable ?? true,
    ...(options.signal ? { signal: options.signal } : {}),
  });
  return { fileBytes: sizeBytes, nonFinite: inOrder.filter(({ name }) => checks.get(name)?.finite === false).map(({ key }) => key) };
}

/** Finite as the evaluator will see it: an f64 value may be too large for f32. */
async function isFinite(data: Uint8Array, dtype: FloatDtype, count: number, kernels: Kernels): Promise<boolean> {
  if (dtype !== "F64") return (await kernels.firstNonFinite(data, dtype, count)) < 0;
  const narrow = new Uint8Array(count * dtypeBytes.F32);
  await kernels.convert(data, "F64", narrow, "F32", count);
  return (await kernels.firstNonFinite(narrow, "F32", count)) < 0;
}
