import type { AdapterEntry } from "../catalog/types.ts";
import { readStrength } from "../terms/index.ts";
import type { StackItem } from "./types.ts";

export interface LiveFolderStack {
  /** `adapter`: the entry's id. */
  readonly stack: readonly (StackItem & { readonly adapter: string })[];
  /** Files whose content hash is still being computed; the stack is not complete without them. */
  readonly waiting: readonly string[];
  readonly refused: readonly { readonly id: string; readonly reason: string }[];
}

/**
 * `name@0.8.safetensors` and `name@0,8.safetensors` → name and 0.8; without an `@` the strength is 1. What follows the last `@` and is meant as a number, but is none, is a reason
 * to refuse the file; anything else belongs to the name.
 */
export function parseStrength(fileName: string): { readonly stem: string; readonly strength: number; readonly problem?: string } {
  const stem = fileName.replace(/\.(safetensors|sft|trt_lora)$/i, "");
  const match = /^(.*[^/])@([^@/]+)$/s.exec(stem);
  const written = match === null ? null : readStrength(match[2] ?? "", { comma: true, place: "after the @" });
  if (match === null || written === null || written.is === "text") return { stem, strength: 1 };
  if (written.is === "refused") return { stem: match[1] ?? "", strength: 1, problem: written.reason };
  return { stem: match[1] ?? "", strength: written.strength };
}

/** Code unit order of the composed form: the same on every computer, whatever its locale and its file system's normal form. */
function byName(a: { readonly order: string }, b: { readonly order: string }): number {
  return a.order < b.order ? -1 : a.order > b.order ? 1 : 0;
}

/**
 * The stack that a live folder stands for: its adapters in name order (without the strength, so that turning a strength up does not reorder), strengths from
 * their names. Adapters with a problem or an impossible strength are refused with a reason, the others still apply. Pure.
 */
export function liveFolderStack(entries: readonly AdapterEntry[]): LiveFolderStack {
  const named = entries
    .map((entry) => ({ entry, ...parseStrength(entry.name) }))
    .map((row) => ({ ...row, order: `${row.stem.normalize("NFC")}\u0000${row.entry.name}` }));
  const stack: (StackItem & { readonly adapter: string })[] = [];
  const waiting: string[] = [];
  const refused: { id: string; reason: string }[] = [];
  for (const { entry, strength, problem } of named.sort(byName)) {
    if (entry.problem !== null) refused.push({ id: entry.id, reason: entry.problem.message });
    else if (problem !== undefined) refused.push({ id: entry.id, reason: `${problem}; rename the file` });
    else if (entry.identity?.proof !== "full") waiting.push(entry.id);
    else stack.push({ adapter: entry.id, sha256: entry.identity.sha256, strength });
  }
  return { stack, waiting, refused };
}
