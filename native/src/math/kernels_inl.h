// Bodies of the inner loops over a vector type `Vec`, included by one .cpp per instruction set after it has defined `Vec`. Everything here has internal
// linkage: a function compiled for AVX-512 must never be the copy that the linker keeps for a CPU without it.
// `Vec`: lanes, zero, load, store, stream (an aligned store past the cache, ordered by fence), broadcast, fma (a * b + c), quiet (NaN made the positive
// quiet NaN), loadF16, storeF16 (of a quiet value).

namespace refit {
namespace {

struct DecodeTables {
  float e4m3[256];
  float e5m2[256];
};

constexpr DecodeTables makeTables() {
  DecodeTables tables{};
  for (uint32_t code = 0; code < 256; ++code) {
    tables.e4m3[code] = decodeMini<e4m3Format>(code);
    tables.e5m2[code] = decodeMini<e5m2Format>(code);
  }
  return tables;
}

constexpr DecodeTables decodeTables = makeTables();

#if defined(__GNUC__)
#define REFIT_UNROLL _Pragma("GCC unroll 16")
#else
#define REFIT_UNROLL
#endif

/** The loops are unrolled whole, so that `sum` lives in registers only. */
template <size_t rows, size_t vectors>
void tileOf(const float* up, const float* down, size_t depth, float* out, size_t outStride) {
  Vec sum[rows][vectors];
  REFIT_UNROLL
  for (size_t i = 0; i < rows; ++i)
    REFIT_UNROLL
    for (size_t j = 0; j < vectors; ++j) sum[i][j] = Vec::zero();
  for (size_t k = 0; k < depth; ++k, up += rows, down += vectors * Vec::lanes) {
    Vec right[vectors];
    REFIT_UNROLL
    for (size_t j = 0; j < vectors; ++j) right[j] = Vec::load(down + j * Vec::lanes);
    REFIT_UNROLL
    for (size_t i = 0; i < rows; ++i) {
      const Vec left = Vec::broadcast(up[i]);
      REFIT_UNROLL
      for (size_t j = 0; j < vectors; ++j) sum[i][j] = Vec::fma(left, right[j], sum[i][j]);
    }
  }
  REFIT_UNROLL
  for (size_t i = 0; i < rows; ++i)
    REFIT_UNROLL
    for (size_t j = 0; j < vectors; ++j) sum[i][j].store(out + i * outStride + j * Vec::lanes);
}

void scaleAdd(float* values, float scale, const float* addend, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    const float scaled = values[i] * scale;
    values[i] = scaled + addend[i];
  }
}

/** Sums in lanes of their own, so that the loop over them becomes vector instructions; the order of the additions depends on nothing but `count`. */
void lossSums(const float* before, const float* change, const float* after, size_t count, double* sums) {
  constexpr size_t lanes = 8;
  double changeSq[lanes] = {}, dot[lanes] = {}, errorSq[lanes] = {};
  size_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    for (size_t lane = 0; lane < lanes; ++lane) {
      const double wanted = change[i + lane];
      const double error = static_cast<double>(after[i + lane]) - static_cast<double>(before[i + lane]) - wanted;
      changeSq[lane] += wanted * wanted;
      dot[lane] += wanted * error;
      errorSq[lane] += error * error;
    }
  }
  for (; i < count; ++i) {
    const double wanted = change[i];
    const double error = static_cast<double>(after[i]) - static_cast<double>(before[i]) - wanted;
    changeSq[0] += wanted * wanted;
    dot[0] += wanted * error;
    errorSq[0] += error * error;
  }
  for (size_t lane = 0; lane < lanes; ++lane) {
    sums[0] += changeSq[lane];
    sums[1] += dot[lane];
    sums[2] += errorSq[lane];
  }
}

void decodeF16(const void* source, float* target, size_t count) {
  const auto* codes = static_cast<const unsigned char*>(source);
  size_t i = 0;
  for (; i + Vec::lanes <= count; i += Vec::lanes) Vec::loadF16(codes + 2 * i).store(target + i);
  for (; i < count; ++i) {
    uint16_t code;
    std::memcpy(&code, codes + 2 * i, 2);
    target[i] = decodeMini<f16Format>(code);
  }
}

void encodeF16(const float* source, void* target, size_t count) {
  auto* codes = static_cast<unsigned char*>(target);
  size_t i = 0;
  for (; i + Vec::lanes <= count; i += Vec::lanes) Vec::load(source + i).quiet().storeF16(codes + 2 * i);
  for (; i < count; ++i) {
    const auto code = static_cast<uint16_t>(encodeMini<f16Format>(std::bit_cast<uint32_t>(source[i])));
    std::memcpy(codes + 2 * i, &code, 2);
  }
}

void decodeBf16(const void* source, float* target, size_t count) {
  const auto* codes = static_cast<const unsigned char*>(source);
  for (size_t i = 0; i < count; ++i) {
    uint16_t code;
    std::memcpy(&code, codes + 2 * i, 2);
    target[i] = std::bit_cast<float>(static_cast<uint32_t>(code) << 16);
  }
}

void encodeBf16s(const float* source, void* target, size_t count) {
  auto* codes = static_cast<unsigned char*>(target);
  for (size_t i = 0; i < count; ++i) {
    const auto code = static_cast<uint16_t>(encodeBf16(std::bit_cast<uint32_t>(source[i])));
    std::memcpy(codes + 2 * i, &code, 2);
  }
}

void decodeF32(const void* source, float* target, size_t count) { std::memcpy(target, source, count * 4); }

void encodeF32s(const float* source, void* target, size_t count) {
  auto* out = static_cast<unsigned char*>(target);
  for (size_t i = 0; i < count; ++i) {
    const uint32_t bits = encodeF32(std::bit_cast<uint32_t>(source[i]));
    std::memcpy(out + 4 * i, &bits, 4);
  }
}

/** Past the cache where the address allows it: a line that is written whole need not be read first. */
void streamF32(const float* source, float* target, size_t count) {
  constexpr size_t line = Vec::lanes * sizeof(float);
  const size_t misaligned = reinterpret_cast<uintptr_t>(target) % line;
  size_t i = 0;
  if (misaligned % sizeof(float) == 0) {
    const size_t head = misaligned == 0 ? 0 : (line - misaligned) / sizeof(float);
    i = head < count ? head : count;
    encodeF32s(source, target, i);
    for (; i + Vec::lanes <= count; i += Vec::lanes) Vec::load(source + i).quiet().stream(target + i);
  }
  encodeF32s(source + i, target + i, count - i);
}

void decodeF64(const void* source, float* target, size_t count) {
  const auto* values = static_cast<const unsigned char*>(source);
  for (size_t i = 0; i < count; ++i) {
    double value;
    std::memcpy(&value, values + 8 * i, 8);
    target[i] = static_cast<float>(value);
  }
}

void encodeF64(const float* source, void* target, size_t count) {
  auto* out = static_cast<unsigned char*>(target);
  for (size_t i = 0; i < count; ++i) {
    const double value = static_cast<double>(source[i]);
    const uint64_t bits = value != value ? canonicalNan64 : std::bit_cast<uint64_t>(value);
    std::memcpy(out + 8 * i, &bits, 8);
  }
}

void decodeE4m3(const void* source, float* target, size_t count) {
  const auto* codes = static_cast<const unsigned char*>(source);
  for (size_t i = 0; i < count; ++i) target[i] = decodeTables.e4m3[codes[i]];
}

void decodeE5m2(const void* source, float* target, size_t count) {
  const auto* codes = static_cast<const unsigned char*>(source);
  for (size_t i = 0; i < count; ++i) target[i] = decodeTables.e5m2[codes[i]];
}

void encodeE4m3(const float* source, void* target, size_t count) {
  auto* codes = static_cast<unsigned char*>(target);
  for (size_t i = 0; i < count; ++i) codes[i] = static_cast<unsigned char>(encodeMini<e4m3Format>(std::bit_cast<uint32_t>(source[i])));
}

void encodeE5m2(const float* source, void* target, size_t count) {
  auto* codes = static_cast<unsigned char*>(target);
  for (size_t i = 0; i < count; ++i) codes[i] = static_cast<unsigned char>(encodeMini<e5m2Format>(std::bit_cast<uint32_t>(source[i])));
}

/** Tile rows and vectors are chosen so that all sums, the right side and one broadcast fit the registers. */
template <size_t rows, size_t vectors>
constexpr KernelSet makeKernels(const char* name) {
  return {name, rows, vectors * Vec::lanes, tileOf<rows, vectors>, scaleAdd, lossSums, streamF32, Vec::fence,
          {decodeF16, decodeBf16, decodeF32, decodeF64, decodeE4m3, decodeE5m2},
          {encodeF16, encodeBf16s, encodeF32s, encodeF64, encodeE4m3, encodeE5m2}};
}

}  // namespace
}  // namespace refit
