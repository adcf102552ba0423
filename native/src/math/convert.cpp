#include "convert.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernel_set.h"
#include "minifloat.h"
#include "thread_pool.h"

namespace refit {
namespace {

/** Elements that one thread takes at a time, and the part of it that passes through the f32 buffer in the first-level cache. */
constexpr size_t chunkElements = 256 * 1024;
constexpr size_t lineElements = 2048;

/** f64 sources keep their precision up to the one rounding: odd-rounded to f32 on the way to anything narrower. */
void convertF64(const std::byte* source, FloatDtype to, std::byte* target, size_t count, double scale) {
  std::array<float, lineElements> line;
  for (size_t done = 0; done < count; done += lineElements) {
    const size_t size = std::min(lineElements, count - done);
    for (size_t i = 0; i < size; ++i) {
      double value;
      std::memcpy(&value, source + (done + i) * 8, 8);
      value *= scale;
      if (to == FloatDtype::F64) {
        if (std::isnan(value)) value = std::bit_cast<double>(canonicalNan64);
        std::memcpy(target + (done + i) * 8, &value, 8);
      }
      line[i] = to == FloatDtype::F32 ? static_cast<float>(value) : roundToOdd(value);
    }
    if (to != FloatDtype::F64) kernels().encode[indexOf(to)](line.data(), target + done * bytesOf(to), size);
  }
}

void convertF32(const std::byte* source, FloatDtype from, FloatDtype to, std::byte* target, size_t count, float scale, bool streams) {
  const KernelSet& set = kernels();
  std::array<float, lineElements> line;
  for (size_t done = 0; done < count; done += lineElements) {
    const size_t size = std::min(lineElements, count - done);
    set.decode[indexOf(from)](source + done * bytesOf(from), line.data(), size);
    if (scale != 1.0f) {
      for (size_t i = 0; i < size; ++i) line[i] *= scale;
    }
    if (streams) set.streamF32(line.data(), reinterpret_cast<float*>(target) + done, size);
    else set.encode[indexOf(to)](line.data(), target + done * bytesOf(to), size);
  }
  if (streams) set.fence();
}

/** Non-finite exactly when all bits of `mask` are set. */
template <typename Word>
int64_t firstWithMask(const std::byte* source, size_t count, Word mask) {
  constexpr size_t line = 4096;
  for (size_t done = 0; done < count; done += line) {
    const size_t size = std::min(line, count - done);
    // Without an early exit this loop is vectorised; the exact index is looked for only in a line that has one.
    Word found = 0;
    for (size_t i = 0; i < size; ++i) {
      Word word;
      std::memcpy(&word, source + (done + i) * sizeof(Word), sizeof(Word));
      found |= static_cast<Word>((word & mask) == mask);
    }
    if (found == 0) continue;
    for (size_t i = 0; i < size; ++i) {
      Word word;
      std::memcpy(&word, source + (done + i) * sizeof(Word), sizeof(Word));
      if ((word & mask) == mask) return static_cast<int64_t>(done + i);
    }
  }
  return -1;
}

int64_t firstInChunk(const std::byte* source, FloatDtype dtype, size_t count) {
  switch (dtype) {
    case FloatDtype::F16: return firstWithMask<uint16_t>(source, count, 0x7c00);
    case FloatDtype::BF16: return firstWithMask<uint16_t>(source, count, 0x7f80);
    case FloatDtype::F32: return firstWithMask<uint32_t>(source, count, 0x7f800000u);
    case FloatDtype::F64: return firstWithMask<uint64_t>(source, count, 0x7ff0000000000000u);
    case FloatDtype::F8_E4M3: return firstWithMask<uint8_t>(source, count, 0x7f);
    case FloatDtype::F8_E5M2: return firstWithMask<uint8_t>(source, count, 0x7c);
  }
  return -1;
}

}  // namespace

bool convert(const void* source, FloatDtype from, void* target, FloatDtype to, size_t count, double scale, CancelFlag cancel) {
  const size_t chunks = (count + chunkElements - 1) / chunkElements;
  const bool streams = to == FloatDtype::F32 && source != target && count * sizeof(float) >= streamBytes;
  parallelFor(chunks, [&](size_t chunk) {
    if (isCancelled(cancel)) return;
    const size_t first = chunk * chunkElements;
    const size_t size = std::min(chunkElements, count - first);
    const auto* in = static_cast<const std::byte*>(source) + first * bytesOf(from);
    auto* out = static_cast<std::byte*>(target) + first * bytesOf(to);
    if (from == to && scale == 1.0) {
      if (in != out) std::memcpy(out, in, size * bytesOf(from));
    } else if (from == FloatDtype::F64) {
      convertF64(in, to, out, size, scale);
    } else {
      convertF32(in, from, to, out, size, static_cast<float>(scale), streams);
    }
  });
  return !isCancelled(cancel);
}

int64_t firstNonFinite(const void* source, FloatDtype dtype, size_t count) {
  const size_t chunks = (count + chunkElements - 1) / chunkElements;
  std::atomic<int64_t> first{std::numeric_limits<int64_t>::max()};
  parallelFor(chunks, [&](size_t chunk) {
    const size_t start = chunk * chunkElements;
    if (static_cast<int64_t>(start) > first.load(std::memory_order_relaxed)) return;
    const int64_t found = firstInChunk(static_cast<const std::byte*>(source) + start * bytesOf(dtype), dtype, std::min(chunkElements, count - start));
    if (found < 0) return;
    const int64_t index = static_cast<int64_t>(start) + found;
    for (int64_t seen = first.load(); index < seen && !first.compare_exchange_weak(seen, index);) {
    }
  });
  const int64_t index = first.load();
  return index == std::numeric_limits<int64_t>::max() ? -1 : index;
}

}  // namespace refit
