#pragma once

#include <atomic>
#include <span>

#include "dtype.h"

namespace refit {

/** Set from another thread to stop a job early; null when it cannot be stopped. */
using CancelFlag = const std::atomic<bool>*;

inline bool isCancelled(CancelFlag flag) { return flag != nullptr && flag->load(std::memory_order_relaxed); }

/** One addend `scale * up[rows, rank] * down[rank, cols]`, f32; rows of `up` are `upStride` apart. The caller keeps the memory. */
struct LowRankFactor {
  const float* up;
  size_t upStride;
  const float* down;
  size_t rank;
  float scale;
};

/** What storing a change kept of it, in f64: sums of change^2, change * error and error^2, where error = stored after - stored before - change. */
struct LossSums {
  double values[3] = {0, 0, 0};
};

struct MergeJob {
  const void* base;
  FloatDtype baseDtype;
  float baseScale;
  void* out;  // may be `base` when the dtypes are equal
  FloatDtype outDtype;
  size_t rows;
  size_t cols;
  std::span<const LowRankFactor> factors;
  CancelFlag cancel;
  /** Null: not measured. "Before" is the base as `outDtype` holds it. */
  LossSums* loss = nullptr;
};

/**
 * [worker] out = round(base * baseScale + sum of factors), one pass over the rows on all threads. The sum of all factors is accumulated in f32 from
 * zero, in order of the factors and their ranks, then added to the base. The bits do not depend on the number of threads. Returns false when
 * cancelled: part of `out` is then written. Throws std::bad_alloc before `out` is touched.
 */
bool mergeLowRank(const MergeJob& job);

/** [worker] Loss of f32 values; with `before` null, `after` is the error itself. `error` (may be null) receives it. Bits do not depend on the number of threads. */
LossSums lossOf(const float* before, const float* change, const float* after, float* error, size_t count);

/**
 * [worker] out[m, n] = (accumulate ? out : 0) + scale * a[m, k] * b[k, n], f32 row-major. `out` must not overlap `a` or `b`. Throws std::bad_alloc;
 * `out` is then partly written.
 */
void matmul(const float* a, const float* b, size_t m, size_t k, size_t n, float* out, float scale, bool accumulate);

}  // namespace refit
