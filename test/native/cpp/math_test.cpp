// The C++ libraries without Node, for the sanitizers: every instruction set over every small pattern, merges against double, jobs from several threads at
// once, cancellation, headers. Prints what failed and exits 1.
#include <atomic>
#include <bit>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "../../../native/src/container/header.h"
#include "../../../native/src/math/convert.h"
#include "../../../native/src/math/kernel_set.h"
#include "../../../native/src/math/low_rank.h"
#include "../../../native/src/math/thread_pool.h"

namespace {

using refit::FloatDtype;

int failures = 0;

void check(bool holds, const std::string& what) {
  if (holds) return;
  ++failures;
  std::fprintf(stderr, "FAIL %s\n", what.c_str());
}

/** Every code of a 16-bit or 8-bit format survives the way through f32, on every count from 0 to 70 (vector bodies and tails). */
void roundTrips(const refit::KernelSet& set, FloatDtype dtype) {
  const size_t bytes = refit::bytesOf(dtype), codes = size_t{1} << (8 * bytes);
  std::vector<unsigned char> source(codes * bytes), back(codes * bytes);
  for (size_t code = 0; code < codes; ++code) std::memcpy(&source[code * bytes], &code, bytes);
  std::vector<float> values(codes);
  set.decode[refit::indexOf(dtype)](source.data(), values.data(), codes);
  set.encode[refit::indexOf(dtype)](values.data(), back.data(), codes);
  size_t wrong = 0;
  for (size_t code = 0; code < codes; ++code) {
    if (std::isfinite(values[code]) && std::memcmp(&source[code * bytes], &back[code * bytes], bytes) != 0) ++wrong;
  }
  check(wrong == 0, std::string(set.name) + ": " + std::to_string(wrong) + " codes changed on the way through f32");
  for (size_t count = 0; count < 70; ++count) {
    const auto in = std::make_unique<unsigned char[]>(count * bytes), out = std::make_unique<unsigned char[]>(count * bytes);
    const auto line = std::make_unique<float[]>(count);
    set.decode[refit::indexOf(dtype)](in.get(), line.get(), count);
    set.encode[refit::indexOf(dtype)](line.get(), out.get(), count);
    set.streamF32(line.get(), std::make_unique<float[]>(count).get(), count);
  }
}

std::vector<float> wave(size_t count, float phase) {
  std::vector<float> out(count);
  for (size_t i = 0; i < count; ++i) out[i] = std::sin(static_cast<float>(i) * 0.37f + phase);
  return out;
}

void mergesAgainstDouble(size_t rows, size_t cols, size_t rank) {
  const auto base = wave(rows * cols, 0), up = wave(rows * rank, 1), down = wave(rank * cols, 2);
  const auto out = std::make_unique<float[]>(rows * cols);
  const refit::LowRankFactor factor = {up.data(), rank, down.data(), rank, 0.25f};
  check(refit::mergeLowRank({base.data(), FloatDtype::F32, 1.0f, out.get(), FloatDtype::F32, rows, cols, {&factor, 1}, nullptr}), "merge finished");
  double worst = 0;
  for (size_t i = 0; i < rows; ++i) {
    for (size_t j = 0; j < cols; ++j) {
      double exact = base[i * cols + j];
      for (size_t r = 0; r < rank; ++r) exact += 0.25 * up[i * rank + r] * down[r * cols + j];
      worst = std::max(worst, std::abs(exact - out[i * cols + j]));
    }
  }
  check(worst < 1e-5, "merge " + std::to_string(rows) + "x" + std::to_string(cols) + " off by " + std::to_string(worst));
}

void manyThreadsAtOnce() {
  std::vector<std::thread> threads;
  std::atomic<size_t> sum{0};
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 20; ++i) refit::parallelFor(50, [&](size_t index) { sum += index; });
    });
  }
  for (std::thread& thread : threads) thread.join();
  check(sum == size_t{4} * 20 * (49 * 50 / 2), "parallelFor runs every index once");
}

void cancellation() {
  const size_t rows = 512, cols = 512;
  const auto base = wave(rows * cols, 0), up = wave(rows, 1), down = wave(cols, 2);
  std::vector<float> out(rows * cols, 7.0f);
  const refit::LowRankFactor factor = {up.data(), 1, down.data(), 1, 1.0f};
  const std::atomic<bool> cancelled{true};
  check(!refit::mergeLowRank({base.data(), FloatDtype::F32, 1.0f, out.data(), FloatDtype::F32, rows, cols, {&factor, 1}, &cancelled}), "a cancelled merge says so");
  check(out[0] == 7.0f, "a merge cancelled before it starts writes nothing");
}

void headers() {
  const auto parse = [](const std::string& text, uint64_t dataBytes) { return refit::parseHeader({reinterpret_cast<const unsigned char*>(text.data()), text.size()}, dataBytes); };
  const std::string good = R"({"__metadata__":{"a":"b"},"w":{"dtype":"F16","shape":[2,3],"data_offsets":[0,12]}})";
  check(std::holds_alternative<refit::ParsedHeader>(parse(good, 12)), "a good header is accepted");
  for (size_t cut = 0; cut < good.size(); ++cut) check(std::holds_alternative<refit::HeaderFault>(parse(good.substr(0, cut), 12)), "a header cut at " + std::to_string(cut));
  check(std::holds_alternative<refit::HeaderFault>(parse(good, 11)), "data cut short");
}

}  // namespace

int main() {
  for (const char* name : {"scalar", "avx2", "avx512", "neon"}) {
    const refit::KernelSet* set = refit::findKernels(name);
    std::printf("%s: %s\n", name, set == nullptr ? "not on this CPU" : "checked");
    if (set == nullptr) continue;
    for (const FloatDtype dtype : {FloatDtype::F16, FloatDtype::BF16, FloatDtype::F8_E4M3, FloatDtype::F8_E5M2}) roundTrips(*set, dtype);
  }
  for (const size_t rows : {1, 7, 33, 100}) {
    for (const size_t cols : {1, 31, 257, 700}) mergesAgainstDouble(rows, cols, 5);
  }
  manyThreadsAtOnce();
  cancellation();
  headers();
  std::printf("%s\n", failures == 0 ? "all passed" : "failed");
  return failures == 0 ? 0 : 1;
}
