// A ready delta as a file to keep or share (`.trt_lora`): the same tensors, with what it was made from as metadata.

import { native, type Native, type TensorFile } from "@refit-sidecar/native";
import { readDelta, type DeltaHeader } from "../../terms/index.ts";
import { deltaFactors } from "./factor-source.ts";
import { writeDelta } from "./write-delta.ts";

export interface ExportRequest {
  /** Path of the ready delta. */
  readonly delta: string;
  readonly out: string;
  /** File names (no folders) and content hashes: what a receiver compares with. */
  readonly base: { readonly name: string; readonly sha256: string | null };
  readonly adapter: { readonly name: string };
  /** Strength that the sharer recommends; it is not baked in. */
  readonly strength: number;
}

/** Throws Failure DELTA_DAMAGED and what reading and writing throw. */
export async function exportDelta(
  request: ExportRequest,
  using: Native = native,
): Promise<{ readonly fileBytes: number; readonly header: DeltaHeader }> {
  const file: TensorFile = await using.openTensorFile(request.delta);
  try {
    const delta = await readDelta(file);
    const extra = {
      format: "refit-sidecar delta",
      base: request.base.name,
      base_sha256: request.base.sha256 ?? "",
      adapter: request.adapter.name,
      adapter_sha256: delta.header.adapter,
      strength: String(request.strength),
    };
    const { fileBytes } = await writeDelta(request.out, delta.header, deltaFactors(file, delta), using, { extra });
    return { fileBytes, header: delta.header };
  } finally {
    await file.close();
  }
}
