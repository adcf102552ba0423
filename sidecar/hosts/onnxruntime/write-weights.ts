import type { BufferPool } from "./buffer-pool.ts";
import { sha256 } from "./checksum.ts";
import { eachBounded } from "./each-bounded.ts";
import { hostFailure } from "./host-failure.ts";
import { mergeInto } from "./merge.ts";
import type { Sources } from "./sources.ts";
import { elementBytes, type WeightTable } from "./weight-table.ts";

/** Parameters in work at one time: enough to overlap reading with merging; each merge is multithreaded by itself. */
const width = 3;

export interface WriteJob {
  readonly table: WeightTable;
  readonly sources: Sources;
  readonly parameters: readonly string[];
  readonly pool: BufferPool;
  readonly signal: AbortSignal;
  /** Where a parameter's values go: a staging buffer, a scratch buffer, or live memory. */
  readonly target: (parameter: string, bytes: number) => Uint8Array<ArrayBuffer>;
  /** Called when the target holds the finished values. */
  readonly finished: (parameter: string, values: Uint8Array<ArrayBuffer>) => void;
  /** Also hash the values before they are handed over. */
  readonly verify: boolean;
  readonly progress?: (doneBytes: number, totalBytes: number) => void;
}

export interface WriteResult {
  readonly bytesRead: number;
  readonly bytesWritten: number;
  readonly sha256: Readonly<Record<string, string>>;
}

interface Overflow {
  readonly parameter: string;
  readonly values: number;
}

/** Parameters that a message names, and those that its evidence lists. */
const named = 3;
const listed = 200;

/** Every parameter that a stack would take out of its number format, with how many of its values. */
function notFinite(overflowed: readonly Overflow[], dtype: string): Error {
  const names = overflowed.slice(0, named).map(({ parameter, values }) => `${parameter} (${values} value${values === 1 ? "" : "s"})`);
  const more = overflowed.length > named ? ` and ${overflowed.length - named} more parameters` : "";
  return hostFailure(
    "HOST_NON_FINITE",
    `${names.join(", ")}${more} would become NaN or infinite in ${dtype}; lower the strength, remove the adapter or choose a wider precision`,
    { parameter: overflowed[0]?.parameter, count: overflowed.length, overflowed: overflowed.slice(0, listed) },
  );
}

/** Throws HOST_NON_FINITE and what reading throws. Computes parameters from pristine base and stack. The one loop behind load, staged prepare, dry pass and in-place commit, so that all four give the same bits. */
export async function writeWeights(job: WriteJob): Promise<WriteResult> {
  const { table, sources, pool, signal } = job;
  const totalBytes = table.sizeOfAll(job.parameters);
  const overflowed: Overflow[] = [];
  const hashes: Record<string, string> = {};
  let bytesRead = 0;
  let bytesWritten = 0;
  await eachBounded(job.parameters, width, async (parameter) => {
    signal.throwIfAborted();
    const layout = table.layout(parameter);
    const base = sources.checkpoint.parameter(parameter, layout.shape);
    const out = job.target(parameter, table.sizeOf(layout));
    const outcome = await mergeInto(layout, base, sources.deltas, table.dtype, out, pool, signal);
    if (outcome.notFinite > 0) overflowed.push({ parameter, values: outcome.notFinite });
    if (job.verify) hashes[parameter] = sha256(layout, out, elementBytes[table.dtype]);
    job.finished(parameter, out);
    bytesRead += outcome.bytesRead;
    bytesWritten += out.byteLength;
    job.progress?.(bytesWritten, totalBytes);
  });
  if (overflowed.length > 0) throw notFinite(overflowed, table.dtype);
  return { bytesRead, bytesWritten, sha256: hashes };
}
