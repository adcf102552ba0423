// Caps on what a file may ask for; the reasons are in ts/limits.ts, which has the same numbers.
#pragma once

#include <cstddef>
#include <cstdint>

namespace refit {

inline constexpr size_t maxRank = 64;
inline constexpr size_t maxTensors = 200'000;
inline constexpr int maxDepth = 128;
inline constexpr uint64_t maxSafeInteger = (uint64_t{1} << 53) - 1;

}  // namespace refit
