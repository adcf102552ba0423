// Every code that stays inside the program, with what it means and what to do. Disjoint from the wire's and the hosts' tables. The reference
// docs/operate/errors.md is generated from all three; a code that stands in none does not compile.
import { errorTable, type ErrorCode } from "../errors.ts";
import { hostErrors, type HostErrorCode } from "../host/errors.ts";
import { clientFailures, pageFailures, runFailures, startFailures } from "./clients.ts";
import { commandFailures, installFailures, toolFailures } from "./commands.ts";
import { deltaFailures, engineFailures, hostProcessFailures } from "./engines.ts";
import { arrivalFailures, catalogFailures, readerFailures } from "./files.ts";

export type { FailureRow, FailureRows } from "./row.ts";

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
export type CataloguedReaderCode = `CATALOG_${keyof typeof readerFailures}`;
/** A code of this program that is neither the wire's nor a host's. */
export type OwnCode = RowsOf<typeof failureTables>;
/** Every code that a failure of this program can carry; `SYSTEM_…` is what the file system said. */
export type KnownCode = ErrorCode | HostErrorCode | OwnCode | CataloguedReaderCode | `SYSTEM_${string}`;

const known: ReadonlySet<string> = new Set([
  ...[errorTable, hostErrors, ...Object.values(failureTables)].flatMap((table) => Object.keys(table)),
  ...Object.keys(readerFailures).map((code) => `CATALOG_${code}`),
]);

/** Whether a text that came from elsewhere (another process, an error of a library) is a code of ours. */
export function isKnownCode(code: string): code is KnownCode {
  return known.has(code) || /^SYSTEM_[A-Z0-9]+$/.test(code);
}
