// Built with AVX-512 F, BW, DQ and VL enabled; entered only after cpu.cpp has seen them.
#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "kernel_set.h"
#include "minifloat.h"

namespace refit {
namespace {

struct Vec {
  static constexpr size_t lanes = 16;
  __m512 v;
  static Vec zero() { return {_mm512_setzero_ps()}; }
  static Vec load(const float* from) { return {_mm512_loadu_ps(from)}; }
  void store(float* to) const { _mm512_storeu_ps(to, v); }
  void stream(float* to) const { _mm512_stream_ps(to, v); }
  static void fence() { _mm_sfence(); }
  static Vec broadcast(float value) { return {_mm512_set1_ps(value)}; }
  static Vec fma(Vec a, Vec b, Vec c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
  Vec quiet() const { return {_mm512_mask_blend_ps(_mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q), v, _mm512_castsi512_ps(_mm512_set1_epi32(static_cast<int>(canonicalNan))))}; }
  static Vec loadF16(const unsigned char* from) { return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)))}; }
  void storeF16(unsigned char* to) const { _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)); }
};

}  // namespace
}  // namespace refit

#include "kernels_inl.h"

namespace refit {
extern const KernelSet avx512Kernels;
const KernelSet avx512Kernels = makeKernels<8, 2>("avx512");
}  // namespace refit
