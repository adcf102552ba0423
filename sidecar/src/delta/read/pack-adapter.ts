// An open adapter file → header and factor sources of its delta, whatever kind of file it is.

import type { Kernels, TensorFile } from "@refit-sidecar/native";
import { deltaFormatVersion, isDeltaFile, isReduxFile, targetsDigest, type DeltaHeader } from "../../terms/index.ts";
import { familyWarnings, noWeightChanges } from "../no-changes.ts";
import { recogniseAdapter } from "../recognise/recognise-adapter.ts";
import type { DeltaRequest } from "../types.ts";
import { copiedFactor, sourcesOf, totalBytes, type FactorSource } from "./factor-source.ts";
import { importDelta } from "./import-delta.ts";
import { readAdapterTensors } from "./adapter-tensors.ts";
import { packRedux, type OpenFile } from "./redux.ts";

export interface PackedAdapter {
  readonly header: DeltaHeader;
  readonly factors: readonly FactorSource[];
  /** Releases what computing factors holds open; the adapter file itself stays with the caller. */
  readonly close: () => Promise<void>;
}

/** Throws Failure DELTA_REDUX_NEEDS_BASE, DELTA_OTHER_STRUCTURE, DELTA_DAMAGED; faults of single keys are in the report. */
export async function packAdapter(
  file: TensorFile,
  request: Omit<DeltaRequest, "folder">,
  kernels: Kernels,
  openFile: OpenFile,
): Promise<PackedAdapter> {
  if (isDeltaFile(file.header.metadata)) return importDelta(file, request);
  if (isReduxFile(file.header.metadata)) return packRedux(file, request, kernels, openFile);
  const { family, structure, parameters } = request.target;
  const tensors = await readAdapterTensors(file, kernels);
  const { metadata } = file.header;
  const { terms, targets, factors, report, notes } = recogniseAdapter({ tensors, metadata, family, parameters, mode: request.mode });
  const sources = [...factors].map(([name, { tensor, shape }]) => copiedFactor(file, name, tensor.key ?? "", shape));
  const facts = { shapes: new Map([...tensors].map(([key, { shape }]) => [key, shape])), metadata, report, expected: family };
  const problem = terms.length === 0 ? noWeightChanges(facts) : null;
  const header: DeltaHeader = {
    formatVersion: deltaFormatVersion,
    adapter: request.adapter.sha256,
    structure,
    family,
    mode: request.mode,
    terms,
    sources: sourcesOf(sources),
    report,
    warnings: problem ? [] : [...familyWarnings(facts), ...notes],
    problem: problem && { code: problem.code, message: problem.message },
    bytes: totalBytes(sources),
    targets: targetsDigest(targets),
  };
  return { header, factors: sources, close: async () => {} };
}
