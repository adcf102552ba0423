#include "low_rank.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "convert.h"
#include "kernel_set.h"
#include "thread_pool.h"

// A macro: compilers drop calls of a function that does nothing but prefetch.
#if defined(__GNUC__)
#define REFIT_PREFETCH(address) __builtin_prefetch(address, 0, 2)
#elif defined(_M_X64)
#include <intrin.h>
#define REFIT_PREFETCH(address) _mm_prefetch(reinterpret_cast<const char*>(address), _MM_HINT_T1)
#else
#define REFIT_PREFETCH(address) static_cast<void>(address)
#endif

namespace refit {
namespace {

/** Columns whose sums are made before they are written out: few, so that the writes to memory overlap with the sums of the next ones (256 measured best). */
constexpr size_t blockCols = 256;
/** Bytes of the right side that all row blocks of a chunk use before moving on; they stay in the second-level cache. */
constexpr size_t rightBytes = 384 * 1024;
/** Rows that one thread takes at a time, and the elements they should hold where rows are short. */
constexpr size_t minChunkRows = 32;
constexpr size_t chunkElements = 16 * 1024;
/** Depth of one pass of a matmul, for the same cache. */
constexpr size_t matmulDepth = 256;

size_t roundUp(size_t value, size_t step) { return (value + step - 1) / step * step; }

/** All factors' `down` rows below each other, cut into panels of tileCols columns, zero-padded: [panel][depth][tileCols]. */
class RightPanels {
 public:
  RightPanels(size_t width, std::span<const LowRankFactor> factors, size_t cols) : width_(width), depth_(0), cols_(cols) {
    for (const LowRankFactor& factor : factors) depth_ += factor.rank;
    const size_t panels = roundUp(cols, width) / width;
    values_.resize(panels * width * depth_);
    parallelFor(panels, [&](size_t panel) { pack(factors, panel * width_); });
  }

  size_t depth() const { return depth_; }
  /** The panel that starts at column `col`, a multiple of the width. */
  const float* at(size_t col) const { return values_.data() + col * depth_; }

 private:
  void pack(std::span<const LowRankFactor> factors, size_t col) {
    const size_t count = std::min(width_, cols_ - col);
    float* target = values_.data() + col * depth_;
    for (const LowRankFactor& factor : factors) {
      for (size_t r = 0; r < factor.rank; ++r, target += width_) std::memcpy(target, factor.down + r * cols_ + col, count * sizeof(float));
    }
  }

  size_t width_, depth_, cols_;
  std::vector<float> values_;
};

/** One chunk of rows at a time: its packed left side, the sums of a row block, one line of merged values. */
class RowChunk {
 public:
  RowChunk(const KernelSet& set, const MergeJob& job, const RightPanels& right, size_t maxRows)
      : set_(set), job_(job), right_(right), left_(roundUp(maxRows, set.tileRows) * right.depth()), sums_(set.tileRows * blockCols), line_(blockCols),
        before_(job.loss == nullptr ? 0 : blockCols), after_(before_.size()), codes_(before_.size() * sizeof(double)),
        streams_(job.outDtype == FloatDtype::F32 && job.out != job.base && job.rows * job.cols * sizeof(float) >= streamBytes) {}

  /** Adds to `loss` when the job measures it. */
  void merge(size_t firstRow, size_t rows, LossSums& loss) {
    loss_ = &loss;
    for (size_t row = 0; row < rows; row += set_.tileRows) packLeft(firstRow + row, std::min(set_.tileRows, rows - row), left_.data() + row * right_.depth());
    const size_t passCols = std::max(blockCols, rightBytes / sizeof(float) / std::max<size_t>(1, right_.depth()) / blockCols * blockCols);
    for (size_t pass = 0; pass < job_.cols; pass += passCols) {
      const size_t end = std::min(job_.cols, pass + passCols);
      for (size_t row = 0; row < rows; row += set_.tileRows) {
        const float* left = left_.data() + row * right_.depth();
        for (size_t col = pass; col < end; col += blockCols) mergeBlock(left, firstRow + row, std::min(set_.tileRows, rows - row), col, std::min(blockCols, end - col));
      }
    }
    if (streams_) set_.fence();
  }

 private:
  void mergeBlock(const float* left, size_t row, size_t rows, size_t col, size_t cols) {
    const size_t baseBytes = bytesOf(job_.baseDtype);
    const size_t nextRows = std::min(job_.rows, row + 2 * set_.tileRows);
    for (size_t j = 0; j < cols; j += set_.tileCols) {
      // The base of the next row block under this tile: rows are far apart, so the CPU does not see the pattern by itself.
      for (size_t next = row + set_.tileRows; next < nextRows; ++next) {
        const std::byte* from = static_cast<const std::byte*>(job_.base) + (next * job_.cols + col + j) * baseBytes;
        for (size_t byte = 0; byte < set_.tileCols * baseBytes; byte += 64) REFIT_PREFETCH(from + byte);
      }
      set_.tile(left, right_.at(col + j), right_.depth(), sums_.data() + j, blockCols);
    }
    for (size_t i = 0; i < rows; ++i) writeLine((row + i) * job_.cols + col, cols, sums_.data() + i * blockCols);
  }

  /** `scale * up` of a row block, all factors below each other: [depth][tileRows], missing rows zero. */
  void packLeft(size_t row, size_t rows, float* target) const {
    for (const LowRankFactor& factor : job_.factors) {
      for (size_t r = 0; r < factor.rank; ++r, target += set_.tileRows) {
        for (size_t i = 0; i < set_.tileRows; ++i) target[i] = i < rows ? factor.scale * factor.up[(row + i) * factor.upStride + r] : 0.0f;
      }
    }
  }

  void writeLine(size_t element, size_t count, const float* sums) {
    set_.decode[indexOf(job_.baseDtype)](static_cast<const std::byte*>(job_.base) + element * bytesOf(job_.baseDtype), line_.data(), count);
    if (job_.loss != nullptr) keepBefore(count);
    set_.scaleAdd(line_.data(), job_.baseScale, sums, count);
    std::byte* out = static_cast<std::byte*>(job_.out) + element * bytesOf(job_.outDtype);
    if (streams_) set_.streamF32(line_.data(), reinterpret_cast<float*>(out), count);
    else set_.encode[indexOf(job_.outDtype)](line_.data(), out, count);
    if (job_.loss == nullptr) return;
    const bool asWritten = job_.outDtype == FloatDtype::F32;
    if (!asWritten) set_.decode[indexOf(job_.outDtype)](out, after_.data(), count);
    set_.lossSums(before_.data(), sums, asWritten ? line_.data() : after_.data(), count, loss_->values);
  }

  /** The base in the output's dtype: what is stored when nothing is merged. */
  void keepBefore(size_t count) {
    for (size_t i = 0; i < count; ++i) before_[i] = line_[i] * job_.baseScale;
    if (job_.baseDtype == job_.outDtype && job_.baseScale == 1.0f) return;
    set_.encode[indexOf(job_.outDtype)](before_.data(), codes_.data(), count);
    set_.decode[indexOf(job_.outDtype)](codes_.data(), before_.data(), count);
  }

  const KernelSet& set_;
  const MergeJob& job_;
  const RightPanels& right_;
  std::vector<float> left_, sums_, line_, before_, after_;
  std::vector<std::byte> codes_;
  LossSums* loss_ = nullptr;
  bool streams_;
};

void addInOrder(const std::vector<LossSums>& parts, LossSums& total) {
  for (const LossSums& part : parts) {
    for (size_t i = 0; i < 3; ++i) total.values[i] += part.values[i];
  }
}

}  // namespace

LossSums lossOf(const float* before, const float* change, const float* after, float* error, size_t count) {
  const KernelSet& set = kernels();
  constexpr size_t chunkSize = 64 * 1024, lineSize = 1024;
  const size_t chunks = (count + chunkSize - 1) / chunkSize;
  std::vector<LossSums> parts(chunks);
  parallelFor(chunks, [&](size_t chunk) {
    float none[lineSize];
    const size_t end = std::min(count, (chunk + 1) * chunkSize);
    for (size_t at = chunk * chunkSize; at < end; at += lineSize) {
      const size_t size = std::min(lineSize, end - at);
      const float* from = before == nullptr ? none : before + at;
      // The error itself: what must be taken off it for "after - before - change" is minus the change.
      if (before == nullptr) for (size_t i = 0; i < size; ++i) none[i] = -change[at + i];
      set.lossSums(from, change + at, after + at, size, parts[chunk].values);
      if (error != nullptr) for (size_t i = 0; i < size; ++i) error[at + i] = static_cast<float>(static_cast<double>(after[at + i]) - static_cast<double>(from[i]) - static_cast<double>(change[at + i]));
    }
  });
  LossSums total;
  addInOrder(parts, total);
  return total;
}

bool mergeLowRank(const MergeJob& job) {
  if (job.rows == 0 || job.cols == 0) return true;
  if (job.factors.empty()) return convert(job.base, job.baseDtype, job.out, job.outDtype, job.rows * job.cols, job.baseScale, job.cancel);
  const KernelSet& set = kernels();
  const RightPanels right(set.tileCols, job.factors, job.cols);
  const size_t chunkRows = roundUp(std::max(minChunkRows, chunkElements / job.cols), set.tileRows);
  const size_t chunks = (job.rows + chunkRows - 1) / chunkRows;
  // Buffers for every lane are there before a byte is written; whichever thread runs a lane takes chunks until none is left.
  std::vector<RowChunk> lanes(std::min(chunks, threadCount()), RowChunk(set, job, right, std::min(chunkRows, job.rows)));
  std::vector<LossSums> losses(job.loss == nullptr ? 1 : chunks);
  std::atomic<size_t> nextChunk{0};
  std::atomic<bool> stopped{false};
  parallelFor(lanes.size(), [&](size_t lane) {
    for (size_t chunk = nextChunk.fetch_add(1); chunk < chunks; chunk = nextChunk.fetch_add(1)) {
      if (isCancelled(job.cancel)) {
        stopped = true;
        return;
      }
      lanes[lane].merge(chunk * chunkRows, std::min(chunkRows, job.rows - chunk * chunkRows), losses[job.loss == nullptr ? 0 : chunk]);
    }
  });
  if (job.loss != nullptr) addInOrder(losses, *job.loss);
  return !stopped;
}

void matmul(const float* a, const float* b, size_t m, size_t k, size_t n, float* out, float scale, bool accumulate) {
  if (!accumulate) std::fill_n(out, m * n, 0.0f);
  for (size_t depth = 0; depth < k; depth += matmulDepth) {
    const LowRankFactor factor = {a + depth, k, b + depth * n, std::min(matmulDepth, k - depth), scale};
    mergeLowRank({out, FloatDtype::F32, 1.0f, out, FloatDtype::F32, m, n, {&factor, 1}, nullptr});
  }
}

}  // namespace refit
