#pragma once

#include <cstdint>

#include "low_rank.h"

namespace refit {

/**
 * [worker] Converts `count` elements times `scale`, one rounding to nearest even; fp8 saturates, NaN becomes the positive quiet NaN. Equal dtypes with
 * scale 1 are copied bit for bit. `scale` is applied in f32, for F64 sources in double. `target` may be `source` when the dtypes are equal.
 * Returns false when cancelled.
 */
bool convert(const void* source, FloatDtype from, void* target, FloatDtype to, size_t count, double scale, CancelFlag cancel);

/** [worker] Index of the first NaN or Inf, -1 when all `count` elements are finite. */
int64_t firstNonFinite(const void* source, FloatDtype dtype, size_t count);

}  // namespace refit
