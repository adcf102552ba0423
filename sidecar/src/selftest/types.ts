// What a self-test finds, row by row.

import type { Gpu } from "../install/host/index.ts";

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
  readonly about: {
    readonly versions: Readonly<Record<string, string>>;
    readonly device: Readonly<Record<string, string>>;
    readonly memory: { readonly totalBytes: number; readonly freeBytes: number };
  } | null;
  readonly precision: string;
  /** How steps run now, by the host's own word. */
  readonly tier: string | null;
  readonly rows: readonly Row[];
  readonly ok: boolean;
}

export interface SystemFacts {
  readonly platform: string;
  readonly release: string;
  readonly node: string;
  readonly processor: string;
  readonly processors: number;
  readonly memoryBytes: number;
  readonly gpus: readonly Gpu[];
}

export interface SelftestReport {
  readonly formatVersion: 1;
  readonly version: string;
  readonly madeAt: string;
  readonly system: SystemFacts;
  readonly hosts: readonly HostReport[];
  readonly ok: boolean;
}
