import type { MergeReport } from "@refit-sidecar/protocol";
import type { BufferPool } from "./buffer-pool.ts";
import { sha256 } from "./checksum.ts";
import { eachBounded } from "./each-bounded.ts";
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
  readonly report: MergeReport;
  readonly sha256: Readonly<Record<string, string>>;
}

/** Computes parameters from pristine base and stack. The one loop behind load, staged prepare, dry pass and in-place commit, so that all four give the same bits. */
export async function writeWeights(job: WriteJob): Promise<WriteResult> {
  const { table, sources, pool, signal } = job;
  const totalBytes = table.sizeOfAll(job.parameters);
  const failed: { adapter: string; parameter: string; reason: string }[] = [];
  const hashes: Record<string, string> = {};
  let bytesRead = 0;
  let bytesWritten = 0;
  await eachBounded(job.parameters, width, async (parameter) => {
    signal.throwIfAborted();
    const layout = table.layout(parameter);
    const base = sources.checkpoint.parameter(parameter, layout.shape);
    const out = job.target(parameter, table.sizeOf(layout));
    const outcome = await mergeInto(layout, base, sources.deltas, table.dtype, out, pool, signal);
    for (const entry of outcome.failed) failed.push({ ...entry, parameter });
    if (job.verify) hashes[parameter] = sha256(layout, out, elementBytes[table.dtype]);
    job.finished(parameter, out);
    bytesRead += outcome.bytesRead;
    bytesWritten += out.byteLength;
    job.progress?.(bytesWritten, totalBytes);
  });
  return { bytesRead, bytesWritten, report: { failed, saturated: [] }, sha256: hashes };
}
