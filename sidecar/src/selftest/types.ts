// What a self-test finds, row by row.

export type RowStatus = "pass" | "fail" | "skip";

export interface Row {
  /** Stable name, for programs. */
  readonly id: string;
  readonly title: string;
  readonly status: RowStatus;
  /** What was seen; for a skip, why it could not run. Holds no path. */
  readonly detail: string;
  /** Times in ms, errors without unit, counts. */
  readonly figures: Readonly<Record<string, number>>;
  readonly firstOnHardware: boolean;
}

export interface HostReport {
  readonly host: string;
  /** Null when the host did not start. */
  readonly about: { readonly versions: Readonly<Record<string, string>>; readonly device: Readonly<Record<string, string>>; readonly memory: { readonly totalBytes: number; readonly freeBytes: number } } | null;
  readonly precision: string;
  /** How steps run now, by the host's own word. */
  readonly tier: string | null;
  readonly rows: readonly Row[];
  readonly ok: boolean;
}
