import type { AdapterEntry } from "../catalog/types.ts";
import type { StackItem } from "./types.ts";

/** Beyond this a strength is a typing mistake, not a wish. */
const maxStrength = 100;

export interface LiveFolderStack {
  readonly stack: readonly StackItem[];
  /** Entry ids in stack order. */
  readonly ids: readonly string[];
  /** Files whose content hash is still being computed; the stack is not complete without them. */
  readonly waiting: readonly string[];
  readonly refused: readonly { readonly id: string; readonly reason: string }[];
}

/** `name@0.8.safetensors` → name and 0.8; without `@number` the strength is 1. An `@` that is not followed by a plain number belongs to the name. */
export function parseStrength(fileName: string): { readonly stem: string; readonly strength: number } {
  const stem = fileName.replace(/\.[^./]+$/, "");
  const match = /^(.*[^/])@([+-]?(?:\d+(?:\.\d*)?|\.\d+))$/s.exec(stem);
  if (match === null) return { stem, strength: 1 };
  // `+ 0` turns -0 into 0, so that equal stacks compare equal.
  return { stem: match[1] ?? "", strength: Number(match[2]) + 0 };
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
  const named = entries.map((entry) => ({ entry, ...parseStrength(entry.name) })).map((row) => ({ ...row, order: `${row.stem.normalize("NFC")}\u0000${row.entry.name}` }));
  const stack: StackItem[] = [];
  const ids: string[] = [];
  const waiting: string[] = [];
  const refused: { id: string; reason: string }[] = [];
  for (const { entry, strength } of named.sort(byName)) {
    if (entry.problem !== null) refused.push({ id: entry.id, reason: entry.problem.message });
    else if (Math.abs(strength) > maxStrength) refused.push({ id: entry.id, reason: `expected a strength between -${maxStrength} and ${maxStrength} after the @, got ${strength}; rename the file` });
    else if (entry.identity?.proof !== "full") waiting.push(entry.id);
    else {
      stack.push({ sha256: entry.identity.sha256, strength });
      ids.push(entry.id);
    }
  }
  return { stack, ids, waiting, refused };
}
