// Fuzz target: merges, products and conversions over sizes, dtypes, strides and bytes taken from the input. Buffers have exactly the size of the job, so
// one element read or written too far is seen; results of two runs must be the same bits.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "../src/math/convert.h"
#include "../src/math/low_rank.h"

namespace {

class Input {
 public:
  Input(const uint8_t* data, size_t size) : data_(data), size_(size) {}
  uint32_t below(uint32_t limit) {
    uint32_t value = 0;
    for (int i = 0; i < 2; ++i) value = value << 8 | next();
    return value % limit;
  }
  /** `bytes` values cycling through the rest of the input: any bit pattern, NaNs and infinities included. */
  std::unique_ptr<std::byte[]> fill(size_t bytes) {
    auto out = std::make_unique<std::byte[]>(bytes);
    for (size_t i = 0; i < bytes; ++i) out[i] = static_cast<std::byte>(next());
    return out;
  }

 private:
  uint8_t next() { return size_ == 0 ? 0x3c : data_[at_++ % size_]; }
  const uint8_t* data_;
  size_t size_;
  size_t at_ = 0;
};

void demandEqual(const std::byte* a, const std::byte* b, size_t bytes) {
  if (std::memcmp(a, b, bytes) != 0) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input input(data, size);
  const size_t rows = input.below(70), cols = input.below(600), elements = rows * cols;
  const auto from = static_cast<refit::FloatDtype>(input.below(refit::floatDtypeCount));
  const auto to = static_cast<refit::FloatDtype>(input.below(refit::floatDtypeCount));
  const size_t ranks[] = {input.below(9), input.below(3)};
  const auto base = input.fill(elements * refit::bytesOf(from));
  std::vector<std::unique_ptr<std::byte[]>> held;
  std::vector<refit::LowRankFactor> factors;
  for (const size_t rank : ranks) {
    held.push_back(input.fill(rows * rank * 4));
    held.push_back(input.fill(rank * cols * 4));
    factors.push_back({reinterpret_cast<const float*>(held[held.size() - 2].get()), rank, reinterpret_cast<const float*>(held.back().get()), rank, 0.5f});
  }
  const size_t outBytes = elements * refit::bytesOf(to);
  const auto first = std::make_unique<std::byte[]>(outBytes), second = std::make_unique<std::byte[]>(outBytes);
  refit::mergeLowRank({base.get(), from, 1.5f, first.get(), to, rows, cols, factors, nullptr});
  refit::mergeLowRank({base.get(), from, 1.5f, second.get(), to, rows, cols, factors, nullptr});
  demandEqual(first.get(), second.get(), outBytes);
  refit::convert(base.get(), from, first.get(), to, elements, 2.0, nullptr);
  const int64_t bad = refit::firstNonFinite(first.get(), to, elements);
  if (bad < -1 || bad >= static_cast<int64_t>(elements)) std::abort();
  const auto product = std::make_unique<float[]>(elements);
  refit::matmul(factors[0].up, factors[0].down, rows, ranks[0], cols, product.get(), 1.0f, false);
  return 0;
}
