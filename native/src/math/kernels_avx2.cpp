// Built with AVX2, FMA and F16C enabled; entered only after cpu.cpp has seen all three.
#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "kernel_set.h"
#include "minifloat.h"

namespace refit {
namespace {

struct Vec {
  static constexpr size_t lanes = 8;
  __m256 v;
  static Vec zero() { return {_mm256_setzero_ps()}; }
  static Vec load(const float* from) { return {_mm256_loadu_ps(from)}; }
  void store(float* to) const { _mm256_storeu_ps(to, v); }
  void stream(float* to) const { _mm256_stream_ps(to, v); }
  static void fence() { _mm_sfence(); }
  static Vec broadcast(float value) { return {_mm256_set1_ps(value)}; }
  static Vec fma(Vec a, Vec b, Vec c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
  Vec quiet() const { return {_mm256_blendv_ps(v, _mm256_castsi256_ps(_mm256_set1_epi32(static_cast<int>(canonicalNan))), _mm256_cmp_ps(v, v, _CMP_UNORD_Q))}; }
  static Vec loadF16(const unsigned char* from) { return {_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)))}; }
  void storeF16(unsigned char* to) const { _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)); }
};

}  // namespace
}  // namespace refit

#include "kernels_inl.h"

namespace refit {
extern const KernelSet avx2Kernels;
const KernelSet avx2Kernels = makeKernels<4, 2>("avx2");
}  // namespace refit
