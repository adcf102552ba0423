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

#if defined(REFIT_X64) && defined(_MSC_VER)
/** One bit of CPUID leaf 1 (ecx) or 7 (ebx). */
bool cpuBit(int leaf, int reg, int bit) {
  int regs[4];
  __cpuidex(regs, leaf, 0);
  return (regs[reg] >> bit) & 1;
}

/** The operating system saves the registers that `mask` of XCR0 stands for. */
bool osSaves(unsigned long long mask) { return cpuBit(1, 2, 27) && (_xgetbv(0) & mask) == mask; }

bool hasAvx2() { return osSaves(0x6) && cpuBit(1, 2, 12) && cpuBit(1, 2, 29) && cpuBit(7, 1, 5); }
bool hasAvx512() { return osSaves(0xe6) && hasAvx2() && cpuBit(7, 1, 16) && cpuBit(7, 1, 17) && cpuBit(7, 1, 30) && cpuBit(7, 1, 31); }
#elif defined(REFIT_X64)
/** clang's builtin does not know f16c. */
bool hasF16c() {
  unsigned eax, ebx, ecx, edx;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
}

// These builtins also ask the operating system whether it saves the wide registers.
bool hasAvx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && hasF16c(); }
bool hasAvx512() {
  return hasAvx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
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
