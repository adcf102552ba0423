// The catalog as text, between runs. Holds names relative to folders, never paths. Pure.

import type { Content } from "./unit.ts";

export interface Saved {
  readonly generation: number;
  readonly units: ReadonlyMap<string, Content>;
}

export function encodeSaved(generation: number, units: Iterable<readonly [string, Content]>): string {
  return JSON.stringify({ generation, units: [...units] });
}

function isContent(value: unknown): value is Content {
  if (typeof value !== "object" || value === null) return false;
  if (!("signature" in value) || typeof value.signature !== "string" || !("identity" in value) || !("summary" in value)) return false;
  const { summary } = value;
  return (
    typeof summary === "object" && summary !== null && "kind" in summary && (summary.kind === "adapter" || summary.kind === "checkpoint")
  );
}

/** The checksum has been compared by then, so this guards against another program's file, not against damage. Null: start from nothing. */
export function decodeSaved(text: string): Saved | null {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    return null;
  }
  if (typeof parsed !== "object" || parsed === null || !("generation" in parsed) || !("units" in parsed)) return null;
  const { generation, units } = parsed;
  if (typeof generation !== "number" || !Number.isSafeInteger(generation) || !Array.isArray(units)) return null;
  const known = new Map<string, Content>();
  for (const row of units as readonly unknown[]) {
    if (!Array.isArray(row) || typeof row[0] !== "string" || !isContent(row[1])) return null;
    known.set(row[0], row[1]);
  }
  return { generation, units: known };
}
