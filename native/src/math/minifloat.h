// Small float formats by rule: one decoder and one encoder, told apart by a few numbers. The TypeScript side (fallback/minifloat.ts) has the same rows.
// Encoders are free of branches so that compilers vectorise loops over them. All functions have internal linkage, on purpose in a header: it is compiled
// into units with wider instruction sets, and the linker must not keep such a copy for everybody.
#pragma once

#include <bit>
#include <cstdint>

namespace refit {
namespace {

struct Minifloat {
  uint32_t mantissaBits;
  uint32_t exponentBias;
  uint32_t signShift;
  uint32_t maxFinite;  // code, without sign
  uint32_t overflow;   // code that overflow and infinities become
  uint32_t infinity;   // code of +Inf; 0 when the format has none
  uint32_t nan;
};

constexpr Minifloat f16Format = {10, 15, 15, 0x7bff, 0x7c00, 0x7c00, 0x7e00};
constexpr Minifloat e4m3Format = {3, 7, 7, 0x7e, 0x7e, 0, 0x7f};      // float8_e4m3fn: no infinity, saturates to 448
constexpr Minifloat e5m2Format = {2, 15, 7, 0x7b, 0x7b, 0x7c, 0x7e};  // saturates to 57344

constexpr uint32_t canonicalNan = 0x7fc00000;
[[maybe_unused]] constexpr uint64_t canonicalNan64 = 0x7ff8000000000000;

/** Exact: f32 holds every value of these formats. */
template <Minifloat format>
constexpr float decodeMini(uint32_t code) {
  const uint32_t sign = (code >> format.signShift) << 31;
  const uint32_t magnitude = code & ((1u << format.signShift) - 1);
  if (magnitude > format.maxFinite) return std::bit_cast<float>(format.infinity != 0 && magnitude == format.infinity ? sign | 0x7f800000u : canonicalNan);
  const uint32_t dropped = 23 - format.mantissaBits;
  if (magnitude >> format.mantissaBits != 0) return std::bit_cast<float>(sign | ((magnitude << dropped) + ((127 - format.exponentBias) << 23)));
  // A subnormal: the mantissa counts units of 2^(1 - bias - mantissaBits).
  const float unit = std::bit_cast<float>((127 + 1 - format.exponentBias - format.mantissaBits) << 23);
  return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(static_cast<float>(magnitude) * unit));
}

/** Rounds to nearest, ties to even. NaN of any kind becomes the one positive quiet NaN. */
template <Minifloat format>
constexpr uint32_t encodeMini(uint32_t bits) {
  constexpr uint32_t dropped = 23 - format.mantissaBits;
  constexpr uint32_t minNormal = (128 - format.exponentBias) << 23;
  constexpr uint32_t rebias = (127 - format.exponentBias) << 23;
  // Adding 2^k with the right k lines the last bit of a subnormal up with the last bit of an f32, whose own addition then rounds.
  constexpr uint32_t magic = (127 + 1 - format.exponentBias + dropped) << 23;
  const uint32_t sign = (bits >> 31) << format.signShift;
  const uint32_t magnitude = bits & 0x7fffffffu;
  const uint32_t subnormal = std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) + std::bit_cast<float>(magic)) - magic;
  const uint32_t normal = (magnitude - rebias + ((1u << (dropped - 1)) - 1) + ((magnitude >> dropped) & 1u)) >> dropped;
  uint32_t code = magnitude < minNormal ? subnormal : normal;
  code = code > format.maxFinite ? format.overflow : code;
  return magnitude > 0x7f800000u ? format.nan : (code | sign);
}

/** bfloat16 is the upper half of an f32. */
constexpr uint32_t encodeBf16(uint32_t bits) {
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  return (bits & 0x7fffffffu) > 0x7f800000u ? 0x7fc0u : rounded;
}

constexpr uint32_t encodeF32(uint32_t bits) { return (bits & 0x7fffffffu) > 0x7f800000u ? canonicalNan : bits; }

/**
 * The f32 next to `value` towards zero, made odd when inexact. Rounding that again to a format with at least two bits less equals rounding the
 * double once, so f64 sources do not round twice.
 */
[[maybe_unused]] float roundToOdd(double value) {
  const float nearest = static_cast<float>(value);
  uint32_t bits = std::bit_cast<uint32_t>(nearest);
  const double back = static_cast<double>(nearest);
  if (back == value || value != value) return nearest;
  if ((back < 0 ? -back : back) > (value < 0 ? -value : value)) bits -= 1;
  return std::bit_cast<float>(bits | 1u);
}

}  // namespace
}  // namespace refit
