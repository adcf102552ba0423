import type { FloatDtype, Kernels, MergeLowRankJob } from "../api.ts";
import { checkBytes, checkConvert, checkCount, checkLossJob, checkMatmul, checkMergeJob } from "../check-job.ts";
import { hashFile } from "../file/hash-file.ts";
import { floatDtypeIndex, type RawAddon } from "./binding.ts";

/** Kernels backed by the addon: arguments checked here, small work done at once, larger on libuv's thread pool and the addon's own threads. */
export function addonKernels(addon: RawAddon, detail: string): Kernels {
  return {
    kind: "native",
    detail,
    mergeLowRank: (job) => mergeLowRank(addon, job),
    async lossOf(job) {
      checkLossJob(job);
      await addon.lossOf(job.before, job.change, job.after, job.error ?? null, job.change.length, job.sums);
    },
    async matmul(a, b, m, k, n, out, scale, accumulate) {
      checkMatmul(a, b, m, k, n, out);
      await addon.matmul(a, b, m, k, n, out, scale, accumulate);
    },
    async convert(source: Uint8Array, from: FloatDtype, target: Uint8Array, to: FloatDtype, count: number, scale = 1) {
      checkConvert(source, from, target, to, count, scale);
      await addon.convert(source, floatDtypeIndex(from), target, floatDtypeIndex(to), count, scale);
    },
    async firstNonFinite(source, dtype, count) {
      checkCount("count", count);
      checkBytes("source", source, dtype, count);
      return addon.firstNonFinite(source, floatDtypeIndex(dtype), count);
    },
    hashFile,
  };
}

async function mergeLowRank(addon: RawAddon, job: MergeLowRankJob): Promise<void> {
  checkMergeJob(job);
  const { signal, factors } = job;
  signal?.throwIfAborted();
  const token = signal === undefined ? null : addon.createCancel();
  const onAbort = (): void => {
    if (token !== null) addon.cancel(token);
  };
  signal?.addEventListener("abort", onAbort, { once: true });
  try {
    const finished = await addon.mergeLowRank(
      job.base,
      floatDtypeIndex(job.baseDtype),
      job.baseScale ?? 1,
      job.out,
      floatDtypeIndex(job.outDtype),
      job.rows,
      job.cols,
      factors.map((factor) => factor.up),
      factors.map((factor) => factor.down),
      factors.map((factor) => factor.rank),
      factors.map((factor) => factor.scale),
      token,
      job.loss ?? null,
    );
    if (!finished) signal?.throwIfAborted();
  } finally {
    signal?.removeEventListener("abort", onAbort);
  }
}
