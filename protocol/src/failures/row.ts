// One row of the tables of codes that stay inside the program. Those that cross a boundary as they are stand in `../errors.ts` (wire) and `../host/errors.ts` (hosts).

export interface FailureRow {
  /** What went wrong, in one sentence. */
  readonly summary: string;
  /** What the reader can do about it. */
  readonly remedy: string;
}

export type FailureRows = Readonly<Record<string, FailureRow>>;
