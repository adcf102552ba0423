// The inner loops, compiled once per instruction set; everything above them is ordinary code.
#pragma once

#include <cstddef>

#include "dtype.h"

namespace refit {

/** [worker] No function allocates, throws or keeps a pointer. Buffers are the caller's; sources and targets need no alignment. */
struct KernelSet {
  const char* name;
  size_t tileRows;
  size_t tileCols;
  /** out[tileRows, tileCols] = sum over depth of up[depth, tileRows] * down[depth, tileCols], summed in order of depth, one fma each where the CPU has it. */
  void (*tile)(const float* up, const float* down, size_t depth, float* out, size_t outStride);
  /** values = values * scale + addend; two roundings, as written. */
  void (*scaleAdd)(float* values, float scale, const float* addend, size_t count);
  /** Adds to sums: change^2, change * error, error^2 with error = after - before - change, all in f64. */
  void (*lossSums)(const float* before, const float* change, const float* after, size_t count, double* sums);
  /** `encode` to F32 past the cache, for outputs larger than it; call `fence` before another thread may read them. */
  void (*streamF32)(const float* source, float* target, size_t count);
  void (*fence)();
  /** To f32; exact but for F64, which is rounded to nearest. */
  void (*decode[floatDtypeCount])(const void* source, float* target, size_t count);
  /** One rounding to nearest even; fp8 saturates; NaN becomes the positive quiet NaN. */
  void (*encode[floatDtypeCount])(const float* source, void* target, size_t count);
};

/** From this size on an f32 output is written past the cache. */
inline constexpr size_t streamBytes = 256 * 1024;

/** The widest set that the CPU and the operating system support; `REFIT_SIMD=avx512|avx2|neon|scalar` asks for a narrower one. Chosen once. */
const KernelSet& kernels();

/** The set of that name, null when this CPU or build lacks it. */
const KernelSet* findKernels(const char* name);

}  // namespace refit
