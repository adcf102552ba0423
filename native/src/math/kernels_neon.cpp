// 64-bit Arm: NEON with fma and half conversion is part of the base instruction set.
#include <arm_neon.h>

#include <cstdint>
#include <cstring>

#include "kernel_set.h"
#include "minifloat.h"

namespace refit {
namespace {

struct Vec {
  static constexpr size_t lanes = 4;
  float32x4_t v;
  static Vec zero() { return {vdupq_n_f32(0)}; }
  static Vec load(const float* from) { return {vld1q_f32(from)}; }
  void store(float* to) const { vst1q_f32(to, v); }
  void stream(float* to) const { store(to); }
  static void fence() {}
  static Vec broadcast(float value) { return {vdupq_n_f32(value)}; }
  static Vec fma(Vec a, Vec b, Vec c) { return {vfmaq_f32(c.v, a.v, b.v)}; }
  Vec quiet() const { return {vbslq_f32(vceqq_f32(v, v), v, vreinterpretq_f32_u32(vdupq_n_u32(canonicalNan)))}; }
  static Vec loadF16(const unsigned char* from) { return {vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(from)))}; }
  void storeF16(unsigned char* to) const { vst1_u8(to, vreinterpret_u8_f16(vcvt_f16_f32(v))); }
};

}  // namespace
}  // namespace refit

#include "kernels_inl.h"

namespace refit {
extern const KernelSet neonKernels;
const KernelSet neonKernels = makeKernels<8, 2>("neon");
}  // namespace refit
