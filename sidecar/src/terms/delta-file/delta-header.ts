// The header of a delta file: metadata `refit_delta`. Layout: docs/develop/internals.md, "Delta file".

import { familyNames, type Family } from "@refit-sidecar/protocol";
import { codeFrom, Failure, type FailureCode } from "../../failure/index.ts";
import type { FactorName, KeyReport, MergeMode, Term } from "../types.ts";
import { count, list, object, oneOf, parseTerms, text } from "./term-json.ts";

export const deltaFormatVersion = 1;
export const deltaMetadataKey = "refit_delta";

export interface DeltaHeader {
  readonly formatVersion: typeof deltaFormatVersion;
  /** SHA-256 of the adapter file. */
  readonly adapter: string;
  readonly structure: string;
  readonly family: Family;
  readonly mode: MergeMode;
  readonly terms: readonly Term[];
  /** Key of the adapter file that each factor was made from. */
  readonly sources: Readonly<Record<FactorName, string>>;
  readonly report: KeyReport;
  /** What a user should hear although the delta is usable. */
  readonly warnings: readonly string[];
  /** Why the delta changes nothing, when it has no terms. */
  readonly problem: { readonly code: FailureCode; readonly message: string } | null;
  /** Bytes of all factors. */
  readonly bytes: number;
  /** `targetsDigest` of everything that the file has a change for, also where it cannot be applied; absent where nobody has looked (computed and imported deltas). */
  readonly targets?: string;
}

export const encodeDeltaHeader = (header: DeltaHeader): Record<string, string> => ({ [deltaMetadataKey]: JSON.stringify(header) });

export const isDeltaFile = (metadata: Readonly<Record<string, string>>): boolean => metadata[deltaMetadataKey] !== undefined;

/** Throws Failure DELTA_DAMAGED (not a delta, or malformed) or DELTA_VERSION (made by another version). */
export function decodeDeltaHeader(metadata: Readonly<Record<string, string>>): DeltaHeader {
  const source = metadata[deltaMetadataKey];
  if (source === undefined) throw damaged("the file has no refit_delta metadata");
  let version: unknown;
  try {
    const json = object(JSON.parse(source), "refit_delta");
    version = json["formatVersion"];
    if (version === deltaFormatVersion) {
      return {
        formatVersion: deltaFormatVersion,
        adapter: text(json["adapter"], "adapter"),
        structure: text(json["structure"], "structure"),
        family: oneOf(json["family"], familyNames, "family"),
        mode: oneOf(json["mode"], ["comfyui", "extended"] as const, "mode"),
        terms: parseTerms(json["terms"]),
        sources: Object.fromEntries(Object.entries(object(json["sources"], "sources")).map(([name, key]) => [name, text(key, "sources")])),
        report: parseReport(json["report"]),
        warnings: list(json["warnings"], "warnings", 1000).map((warning) => text(warning, "warnings")),
        problem: parseProblem(json["problem"]),
        bytes: count(json["bytes"], "bytes"),
        ...(json["targets"] === undefined ? {} : { targets: text(json["targets"], "targets") }),
      };
    }
  } catch (cause) {
    throw damaged(cause instanceof Error ? cause.message : String(cause), cause);
  }
  throw new Failure(
    "DELTA_VERSION",
    `expected a delta of format version ${deltaFormatVersion}, got ${JSON.stringify(version)}; it is rebuilt from the adapter, or export it again with this version`,
    { version },
  );
}

export function damaged(reason: string, cause?: unknown): Failure {
  return new Failure("DELTA_DAMAGED", `expected a whole delta file: ${reason}; it is rebuilt from the adapter`, { reason }, { cause });
}

function parseReport(value: unknown): KeyReport {
  const json = object(value, "report");
  const reasons = (field: string): { key: string; reason: string }[] =>
    list(json[field], field, 1_000_000).map((entry) => {
      const item = object(entry, field);
      return { key: text(item["key"], "key"), reason: text(item["reason"], "reason") };
    });
  return {
    used: list(json["used"], "used", 1_000_000).map((key) => text(key, "used")),
    ignored: reasons("ignored"),
    failed: reasons("failed"),
  };
}

function parseProblem(value: unknown): DeltaHeader["problem"] {
  if (value === null) return null;
  const json = object(value, "problem");
  return { code: codeFrom(text(json["code"], "code"), "DELTA_UNEXPECTED"), message: text(json["message"], "message") };
}
