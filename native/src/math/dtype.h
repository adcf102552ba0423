// Element types that hold weights or factors. The order is the one of `floatDtypes` in ts/addon/binding.ts.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace refit {

enum class FloatDtype : uint8_t { F16, BF16, F32, F64, F8_E4M3, F8_E5M2 };

inline constexpr size_t floatDtypeCount = 6;
inline constexpr std::array<size_t, floatDtypeCount> floatDtypeBytes = {2, 2, 4, 8, 1, 1};
static_assert(static_cast<size_t>(FloatDtype::F8_E5M2) + 1 == floatDtypeCount, "a dtype was added: extend every table of length floatDtypeCount");

constexpr size_t indexOf(FloatDtype dtype) { return static_cast<size_t>(dtype); }
constexpr size_t bytesOf(FloatDtype dtype) { return floatDtypeBytes[indexOf(dtype)]; }

}  // namespace refit
