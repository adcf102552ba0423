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
  uint64_t bytes;
};

/** Element types of the container; positions are those of `containerDtypes` in ts/addon/binding.ts. */
inline constexpr std::array<ContainerDtype, 16> containerDtypes = {{{"BOOL", 1}, {"U8", 1}, {"I8", 1}, {"I16", 2}, {"U16", 2}, {"I32", 4}, {"U32", 4}, {"I64", 8}, {"U64", 8}, {"F16", 2}, {"BF16", 2}, {"F32", 4}, {"F64", 8}, {"F8_E4M3", 1}, {"F8_E5M2", 1}, {"F8_E8M0", 1}}};
static_assert(containerDtypes.size() == 16 && !containerDtypes.back().name.empty(), "a dtype was added: extend binding.ts and native/ts/dtypes.ts");

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
