#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace refit {

struct ContainerDtype {
  std::string_view name;
  uint64_t bits;
};

/** Element types of the container; positions are those of `containerDtypes` in ts/addon/binding.ts. */
inline constexpr std::array<ContainerDtype, 22> containerDtypes = {{{"BOOL", 8}, {"U8", 8}, {"I8", 8}, {"I16", 16}, {"U16", 16}, {"I32", 32}, {"U32", 32}, {"I64", 64}, {"U64", 64}, {"F16", 16}, {"BF16", 16}, {"F32", 32}, {"F64", 64}, {"F8_E4M3", 8}, {"F8_E5M2", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}, {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"F4", 4}, {"C64", 64}}};
static_assert(containerDtypes.size() == 22 && !containerDtypes.back().name.empty(), "a dtype was added: extend binding.ts and native/ts/dtypes.ts");

struct TensorInfo {
  uint64_t begin;
  uint64_t end;
  size_t nameEnd;    // in ParsedHeader::names; the name begins where the one before ends
  size_t dimsBegin;  // in ParsedHeader::dims
  uint8_t rank;      // at most maxRank
  uint8_t dtype;     // position in containerDtypes
};

/** Names and dimensions lie in one array each: a header has thousands of tensors, and an allocation a name costs more than reading it. */
struct ParsedHeader {
  std::vector<TensorInfo> tensors;  // in the order of the header
  std::string names;
  std::vector<uint64_t> dims;
  std::vector<std::pair<std::string, std::string>> metadata;

  std::string_view name(size_t tensor) const {
    const size_t begin = tensor == 0 ? 0 : tensors[tensor - 1].nameEnd;
    return std::string_view(names).substr(begin, tensors[tensor].nameEnd - begin);
  }
  std::span<const uint64_t> shape(size_t tensor) const { return {dims.data() + tensors[tensor].dimsBegin, tensors[tensor].rank}; }
};

/** `code` is one of SafetensorsErrorCode; `tensor` is empty unless `namesTensor`. */
struct HeaderFault {
  std::string_view code;
  std::string problem;
  std::string tensor;
  bool namesTensor = false;
};

/**
 * [worker] Checks a whole header: strict UTF-8, strict JSON, every field, and that the tensors tile the data section from 0 to its end without a hole.
 * `header` is the N bytes after the length, `dataBytes` what the file holds after them. Reads nothing outside `header`. Throws std::bad_alloc only.
 */
std::variant<ParsedHeader, HeaderFault> parseHeader(std::span<const unsigned char> header, uint64_t dataBytes);

}  // namespace refit
