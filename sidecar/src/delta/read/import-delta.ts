// A delta that someone exported (`.trt_lora` of this program): checked against the structure and taken over.

import type { TensorFile } from "@refit-sidecar/native";
import { Failure } from "../../failure/index.ts";
import { checkTerms, readDelta } from "../../terms/index.ts";
import type { DeltaRequest } from "../types.ts";
import { deltaFactors } from "./factor-source.ts";
import type { PackedAdapter } from "./pack-adapter.ts";

/** Throws Failure DELTA_OTHER_STRUCTURE, DELTA_DAMAGED or DELTA_VERSION. Every factor is checked against its checksum as it is copied. */
export async function importDelta(file: TensorFile, { adapter, target }: Omit<DeltaRequest, "folder">): Promise<PackedAdapter> {
  const delta = await readDelta(file);
  const { header } = delta;
  if (header.structure !== target.structure) {
    const text = `expected a delta for this checkpoint's structure (${target.family}, ${target.structure.slice(0, 16)}), got one for ${header.family}, ${header.structure.slice(0, 16)}; export it again from the adapter with this checkpoint as --base`;
    throw new Failure("DELTA_OTHER_STRUCTURE", text, { expected: target.structure, found: header.structure });
  }
  const problems = checkTerms(header.terms, (name) => delta.shapeOf(name), target.parameters);
  if (problems[0]) {
    const { term, reason } = problems[0];
    throw new Failure(
      "DELTA_DAMAGED",
      `expected terms that fit the structure they name: ${term.target.parameter}: ${reason}; export the delta again`,
      { problems: problems.length },
    );
  }
  const strength = file.header.metadata["strength"];
  const advice =
    strength !== undefined && Number(strength) !== 1 ? [`the delta was exported for use at strength ${strength.slice(0, 20)}`] : [];
  return {
    header: { ...header, adapter: adapter.sha256, warnings: [...header.warnings, ...advice] },
    factors: deltaFactors(file, delta),
    close: async () => {},
  };
}
