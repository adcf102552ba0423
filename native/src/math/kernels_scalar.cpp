// Runs anywhere. Multiply and add round separately here (no fma instruction is assumed), so the last bit may differ from the wider sets.
#include <cstdint>
#include <cstring>

#include "kernel_set.h"
#include "minifloat.h"

namespace refit {
namespace {

struct Vec {
  static constexpr size_t lanes = 8;
  float v[lanes];
  static Vec zero() { return {}; }
  static Vec load(const float* from) {
    Vec out;
    std::memcpy(out.v, from, sizeof out.v);
    return out;
  }
  void store(float* to) const { std::memcpy(to, v, sizeof v); }
  void stream(float* to) const { store(to); }
  static void fence() {}
  static Vec broadcast(float value) {
    Vec out;
    for (float& lane : out.v) lane = value;
    return out;
  }
  static Vec fma(const Vec& a, const Vec& b, const Vec& c) {
    Vec out;
    for (size_t i = 0; i < lanes; ++i) out.v[i] = a.v[i] * b.v[i] + c.v[i];
    return out;
  }
  Vec quiet() const { return *this; }
  static Vec loadF16(const unsigned char* from) {
    uint16_t codes[lanes];
    std::memcpy(codes, from, sizeof codes);
    Vec out;
    for (size_t i = 0; i < lanes; ++i) out.v[i] = decodeMini<f16Format>(codes[i]);
    return out;
  }
  void storeF16(unsigned char* to) const {
    uint16_t codes[lanes];
    for (size_t i = 0; i < lanes; ++i) codes[i] = static_cast<uint16_t>(encodeMini<f16Format>(std::bit_cast<uint32_t>(v[i])));
    std::memcpy(to, codes, sizeof codes);
  }
};

}  // namespace
}  // namespace refit

#include "kernels_inl.h"

namespace refit {
extern const KernelSet scalarKernels;
const KernelSet scalarKernels = makeKernels<4, 1>("scalar");
}  // namespace refit
