// An adapter that would change nothing, or little: what the likely cause is.

import type { Family } from "../catalog/types.ts";
import { Failure } from "../failure/index.ts";
import { detectAdapterFamily, foreignKey, moduleName, type AdapterFamily, type KeyReport, type Parameters } from "../terms/index.ts";

/** Below this share of its modules an adapter is likely for another model (ComfyUI merges whatever matches and says nothing). */
const trustedShare = 0.5;

export interface AdapterFacts {
  readonly shapes: Parameters;
  readonly metadata: Readonly<Record<string, string>>;
  readonly report: KeyReport;
  /** Family of the checkpoint. */
  readonly expected: Family;
}

/** Share of the file's denoiser modules of which at least one tensor is used; 1 when it has none. */
function usedShare({ shapes, report }: Pick<AdapterFacts, "shapes" | "report">): number {
  const modules = (keys: Iterable<string>): Set<string> =>
    new Set([...keys].filter((key) => foreignKey(key) === null).flatMap((key) => moduleName(key) ?? []));
  const all = modules(shapes.keys());
  return all.size === 0 ? 1 : modules(report.used).size / all.size;
}

/** Sentences for a delta that is usable but suspicious. */
export function familyWarnings(facts: AdapterFacts): string[] {
  const share = usedShare(facts);
  if (share >= trustedShare) return [];
  const found = detectAdapterFamily(facts.shapes, facts.metadata);
  return [
    `only ${Math.round(share * 100)} % of the adapter's modules fit this checkpoint: found ${described(found)}, expected ${facts.expected}`,
  ];
}

/** DELTA_NO_WEIGHT_CHANGES with the likely cause. */
export function noWeightChanges(facts: AdapterFacts): Failure {
  const found = detectAdapterFamily(facts.shapes, facts.metadata);
  const { ignored, failed } = facts.report;
  const reasons = countReasons([...failed, ...ignored]);
  return new Failure(
    "DELTA_NO_WEIGHT_CHANGES",
    `expected an adapter that changes the ${facts.expected} model, but none of its ${facts.shapes.size} tensors does: ${cause(found, facts.expected, reasons)}`,
    {
      found: found.family ?? found.unsupported ?? null,
      expected: facts.expected,
      evidence: found.evidence,
      reasons: Object.fromEntries(reasons.slice(0, 5)),
      keys: [...facts.shapes.keys()].slice(0, 3),
    },
  );
}

function cause(found: AdapterFamily, expected: Family, reasons: readonly (readonly [string, number])[]): string {
  if (found.unsupported !== null) return `it was made for ${found.unsupported} (${found.evidence.join(", ")}), which is not supported`;
  if (found.family !== null && !found.candidates.includes(expected))
    return `it was made for ${found.family} (${found.evidence.join(", ")}); use it with a ${found.family} checkpoint`;
  const [reason] = reasons[0] ?? ["the file has no adapter tensors"];
  return found.candidates.includes(expected) && found.family !== null ? `its names are of the right family, but: ${reason}` : reason;
}

const described = (found: AdapterFamily): string => found.candidates.join(" or ") || found.unsupported || "an unknown family";

function countReasons(entries: KeyReport["failed"]): [string, number][] {
  const counts = new Map<string, number>();
  // "read as …" names the key; without it equal causes count together.
  for (const { reason } of entries)
    counts.set(reason.replace(/ \(read as .*\)$/, ""), (counts.get(reason.replace(/ \(read as .*\)$/, "")) ?? 0) + 1);
  return [...counts].sort((a, b) => b[1] - a[1]);
}
