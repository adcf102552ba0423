// How long work still takes, told only from what has been measured.

/** From a job's own pace; null until a tenth is done, because an earlier guess would not be honest. */
export function remainingMs(elapsedMs: number, done: number, total: number): number | null {
  if (total <= 0 || done / total < 0.1) return null;
  return Math.max(0, (elapsedMs * (total - done)) / done);
}

/** Jobs of a kind that the average reaches back to. */
const remembered = 20;

/** Paces of finished jobs by kind, for those that cannot tell their own progress: milliseconds per unit of size. */
export class Paces {
  readonly #recent = new Map<string, { readonly ms: number; readonly size: number }[]>();

  note(kind: string, ms: number, size: number): void {
    const rows = this.#recent.get(kind) ?? [];
    rows.push({ ms, size });
    if (rows.length > remembered) rows.shift();
    this.#recent.set(kind, rows);
  }

  /** Null while no job of that kind has been finished. */
  expectedMs(kind: string, size: number): number | null {
    const rows = this.#recent.get(kind);
    if (rows === undefined) return null;
    const total = rows.reduce((sum, row) => ({ ms: sum.ms + row.ms, size: sum.size + row.size }), { ms: 0, size: 0 });
    return total.size <= 0 ? null : (total.ms / total.size) * size;
  }
}
