// Every code that stays inside the program, with what it means and what to do. Disjoint from the wire's and the hosts' tables. The reference
// docs/operate/errors.md is generated from all three; a code that stands in none does not compile.
import { errorTable, type ErrorCode } from "../errors.ts";
import { hostErrors, type HostErrorCode } from "../host/errors.ts";
import { clientFailures, pageFailures, runFailures, startFailures } from "./clients.ts";
import { commandFailures, installFailures, toolFailures } from "./commands.ts";
import { deltaFailures, engineFailures, hostProcessFailures } from "./engines.ts";
import { arrivalFailures, catalogFailures, readerFailures } from "./files.ts";
import type { FailureRow } from "./row.ts";

export type { FailureRow } from "./row.ts";

/** In the order of the reference. */
export const failureTables = {
  readerFailures,
  arrivalFailures,
  catalogFailures,
  deltaFailures,
  engineFailures,
  hostProcessFailures,
  commandFailures,
  toolFailures,
  installFailures,
  startFailures,
  clientFailures,
  runFailures,
  pageFailures,
} as const;

type RowsOf<Tables> = Tables extends Readonly<Record<string, infer Table>> ? (Table extends unknown ? keyof Table : never) : never;

/** A file that the reader refuses stands in the catalog under the reader's code with `CATALOG_` before it. */
type CataloguedReaderCode = `CATALOG_${keyof typeof readerFailures}`;
/** A code of this program that is neither the wire's nor a host's. */
type OwnCode = RowsOf<typeof failureTables>;
/** Every code that a failure of this program can carry; `SYSTEM_…` is what the file system said. */
export type KnownCode = ErrorCode | HostErrorCode | OwnCode | CataloguedReaderCode | `SYSTEM_${string}`;

const rows: ReadonlyMap<string, FailureRow> = new Map([
  ...Object.entries(readerFailures).map(([code, row]): [string, FailureRow] => [`CATALOG_${code}`, row]),
  ...[errorTable, ...Object.values(failureTables)].flatMap((table) => Object.entries<FailureRow>(table)),
  ...Object.entries(hostErrors).map(([code, { meaning, remedy }]): [string, FailureRow] => [code, { summary: meaning, remedy }]),
]);

/** What a code of ours means and what to do; null for one that stands in no table, as a `SYSTEM_…` does. */
export function failureRow(code: string): FailureRow | null {
  return rows.get(code) ?? null;
}

/** Whether a text that came from elsewhere (another process, an error of a library) is a code of ours. */
export function isKnownCode(code: string): code is KnownCode {
  return rows.has(code) || /^SYSTEM_[A-Z0-9]+$/.test(code);
}
