#include <cstdlib>
#include <cstring>

#include "kernel_set.h"

#if defined(REFIT_X64)
#if defined(_MSC_VER)
#include <intrin.h>
#else
#include <cpuid.h>
#endif
#endif

namespace refit {

extern const KernelSet scalarKernels;
#if defined(REFIT_X64)
extern const KernelSet avx2Kernels;
extern const KernelSet avx512Kernels;
#elif defined(REFIT_ARM64)
extern const KernelSet neonKernels;
#endif

namespace {

#if defined(REFIT_X64)
// By the instructions themselves: the builtins of GCC and clang need a runtime part that a cross-compiled addon may lack, and MSVC has none.
#if defined(_MSC_VER)
bool cpuLeaf(int leaf, unsigned regs[4]) {
  int values[4];
  __cpuid(values, 0);
  if (values[0] < leaf) return false;
  __cpuidex(values, leaf, 0);
  for (int i = 0; i < 4; ++i) regs[i] = static_cast<unsigned>(values[i]);
  return true;
}

unsigned long long savedByOs() { return _xgetbv(0); }
#else
bool cpuLeaf(int leaf, unsigned regs[4]) { return __get_cpuid_count(static_cast<unsigned>(leaf), 0, &regs[0], &regs[1], &regs[2], &regs[3]) != 0; }

unsigned long long savedByOs() {
  unsigned low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (static_cast<unsigned long long>(high) << 32) | low;
}
#endif

/** One bit of CPUID leaf 1 (register 2, ecx) or 7 (register 1, ebx). */
bool cpuBit(int leaf, int reg, int bit) {
  unsigned regs[4];
  return cpuLeaf(leaf, regs) && ((regs[reg] >> bit) & 1) != 0;
}

/** The operating system saves the registers that `mask` of XCR0 stands for. */
bool osSaves(unsigned long long mask) { return cpuBit(1, 2, 27) && (savedByOs() & mask) == mask; }

/** AVX2, FMA and F16C. */
bool hasAvx2() { return osSaves(0x6) && cpuBit(1, 2, 12) && cpuBit(1, 2, 29) && cpuBit(7, 1, 5); }

/** AVX-512 F, DQ, BW and VL. */
bool hasAvx512() { return osSaves(0xe6) && hasAvx2() && cpuBit(7, 1, 16) && cpuBit(7, 1, 17) && cpuBit(7, 1, 30) && cpuBit(7, 1, 31); }
#endif

const KernelSet& choose() {
  if (const char* wanted = std::getenv("REFIT_SIMD"); wanted != nullptr && *wanted != '\0') {
    if (const KernelSet* found = findKernels(wanted)) return *found;
  }
  for (const char* name : {"avx512", "avx2", "neon"}) {
    if (const KernelSet* found = findKernels(name)) return *found;
  }
  return scalarKernels;
}

}  // namespace

const KernelSet* findKernels(const char* name) {
#if defined(REFIT_X64)
  if (std::strcmp(name, "avx512") == 0) return hasAvx512() ? &avx512Kernels : nullptr;
  if (std::strcmp(name, "avx2") == 0) return hasAvx2() ? &avx2Kernels : nullptr;
#elif defined(REFIT_ARM64)
  if (std::strcmp(name, "neon") == 0) return &neonKernels;
#endif
  return std::strcmp(name, "scalar") == 0 ? &scalarKernels : nullptr;
}

const KernelSet& kernels() {
  static const KernelSet& chosen = choose();
  return chosen;
}

}  // namespace refit
