#include "header.h"

#include <algorithm>
#include <deque>
#include <numeric>
#include <optional>
#include <string_view>
#include <unordered_set>

#include "json_scanner.h"
#include "limits.h"
#include "utf8.h"

namespace refit {
namespace {

std::string joined(std::span<const uint64_t> values) {
  std::string out;
  for (const uint64_t value : values) out += (out.empty() ? "" : ", ") + std::to_string(value);
  return out;
}

class HeaderParser {
 public:
  explicit HeaderParser(std::string_view text) : text_(text), scanner_(text) {}

  ParsedHeader parse() {
    scanner_.object([this](std::string_view name) {
      if (name == "__metadata__") readMetadata();
      else readTensor(name);
    });
    scanner_.end();
    return std::move(parsed_);
  }

 private:
  [[noreturn]] static void fail(std::string_view code, std::string problem) { throw HeaderFault{code, std::move(problem), {}, false}; }
  [[noreturn]] static void failAt(std::string_view tensor, std::string_view code, std::string problem) { throw HeaderFault{code, std::move(problem), std::string(tensor), true}; }

  void readMetadata() {
    if (hasMetadata_) fail("DUPLICATE_KEY", "the header has the key \"__metadata__\" twice");
    hasMetadata_ = true;
    // The reference reads null as no metadata, and some writers save it.
    if (scanner_.peek() == 'n') return scanner_.skipValue();
    if (scanner_.peek() != '{') fail("INVALID_METADATA", "expected \"__metadata__\" to be an object of strings");
    std::unordered_set<std::string> keys;
    std::string scratch;
    scanner_.object([&](std::string_view key) {
      if (!keys.emplace(key).second) fail("DUPLICATE_KEY", "\"__metadata__\" has a key twice");
      if (scanner_.peek() != '"') fail("INVALID_METADATA", "expected every metadata value to be a string");
      parsed_.metadata.emplace_back(key, scanner_.string(scratch));
    });
  }

  /** False when it is there already. The set holds views: of the header where it can, of a copy where escapes were resolved. */
  bool takeName(std::string_view name) {
    const bool inHeader = name.data() >= text_.data() && name.data() < text_.data() + text_.size();
    return names_.insert(inHeader ? name : std::string_view(resolved_.emplace_back(name))).second;
  }

  void readTensor(std::string_view name) {
    if (!takeName(name)) failAt(name, "DUPLICATE_KEY", "the header names this tensor twice");
    if (parsed_.tensors.size() >= maxTensors) fail("TOO_MANY_TENSORS", "more than " + std::to_string(maxTensors) + " tensors; no model file has as many");
    if (scanner_.peek() != '{') failAt(name, "TENSOR_INVALID_INFO", "expected an object with dtype, shape and data_offsets");
    std::optional<uint8_t> dtype;
    bool hasShape = false;
    const size_t dimsBegin = parsed_.dims.size();
    std::vector<uint64_t>& offsets = offsets_;
    offsets.clear();
    bool hasOffsets = false;
    scanner_.object([&](std::string_view field) {
      const bool again = (field == "dtype" && dtype) || (field == "shape" && hasShape) || (field == "data_offsets" && hasOffsets);
      if (again) failAt(name, "DUPLICATE_KEY", "the field \"" + std::string(field) + "\" comes twice");
      if (field == "dtype") {
        dtype = readDtype(name);
      } else if (field == "shape") {
        hasShape = true;
        readIntegers(name, field, maxRank, parsed_.dims);
      } else if (field == "data_offsets") {
        hasOffsets = true;
        readIntegers(name, field, 2, offsets);
      } else {
        scanner_.skipValue();
      }
    });
    if (!dtype || !hasShape || !hasOffsets) failAt(name, "TENSOR_INVALID_INFO", "expected the fields dtype, shape and data_offsets");
    if (offsets.size() != 2) failAt(name, "TENSOR_INVALID_INFO", "expected two data_offsets");
    parsed_.names += name;
    const auto rank = static_cast<uint8_t>(parsed_.dims.size() - dimsBegin);
    parsed_.tensors.push_back({offsets[0], offsets[1], parsed_.names.size(), dimsBegin, rank, *dtype});
    checkSize(name, parsed_.tensors.back());
  }

  uint8_t readDtype(std::string_view name) {
    if (scanner_.peek() != '"') failAt(name, "TENSOR_INVALID_INFO", "expected dtype to be a string");
    std::string scratch;
    const std::string_view text = scanner_.string(scratch);
    for (size_t i = 0; i < containerDtypes.size(); ++i) {
      if (containerDtypes[i].name == text) return static_cast<uint8_t>(i);
    }
    std::string known;
    for (const ContainerDtype& each : containerDtypes) known += (known.empty() ? "" : ", ") + std::string(each.name);
    failAt(name, "UNKNOWN_DTYPE", "the dtype is none of " + known);
  }

  /** Appends to `values`; a tensor that fails takes the whole header with it, so nothing is taken back. */
  void readIntegers(std::string_view name, std::string_view view, size_t cap, std::vector<uint64_t>& values) {
    const auto field = [view] { return std::string(view); };
    if (scanner_.peek() != '[') failAt(name, "TENSOR_INVALID_INFO", "expected " + field() + " to be an array of integers");
    const size_t begin = values.size();
    scanner_.array([&] {
      if (values.size() - begin >= cap) failAt(name, "TENSOR_INVALID_INFO", field() + " has more than " + std::to_string(cap) + " numbers");
      const char next = scanner_.peek();
      if (next < '0' || next > '9') failAt(name, "TENSOR_INVALID_INFO", "expected " + field() + " to hold unsigned integers");
      const std::optional<uint64_t> value = scanner_.unsignedInteger();
      if (!value) failAt(name, "VALIDATION_OVERFLOW", "a number in " + field() + " is above 2^53");
      values.push_back(*value);
    });
  }

  void checkSize(std::string_view name, const TensorInfo& info) const {
    if (info.begin > info.end) failAt(name, "INVALID_OFFSET", "data_offsets [" + std::to_string(info.begin) + ", " + std::to_string(info.end) + "] run backwards");
    const std::span<const uint64_t> shape = parsed_.shape(parsed_.tensors.size() - 1);
    uint64_t bits = containerDtypes[info.dtype].bits;
    for (const uint64_t dim : shape) {
      if (dim != 0 && bits > 8 * maxSafeInteger / dim) failAt(name, "VALIDATION_OVERFLOW", "the shape [" + joined(shape) + "] overflows");
      bits *= dim;
    }
    if (bits % 8 != 0) failAt(name, "TENSOR_INVALID_INFO", std::string(containerDtypes[info.dtype].name) + " [" + joined(shape) + "] does not end with a whole byte");
    const uint64_t bytes = bits / 8;
    if (bytes == info.end - info.begin) return;
    failAt(name, "TENSOR_INVALID_INFO", std::string(containerDtypes[info.dtype].name) + " [" + joined(shape) + "] needs " + std::to_string(bytes) + " bytes, data_offsets give " + std::to_string(info.end - info.begin));
  }

  std::string_view text_;
  JsonScanner scanner_;
  ParsedHeader parsed_;
  /** Not std::pmr, which needs macOS 14. */
  std::unordered_set<std::string_view> names_{4096};
  /** Stays where it is while it grows. */
  std::deque<std::string> resolved_;
  std::vector<uint64_t> offsets_;
  bool hasMetadata_ = false;
};

/** Sorted by offset the tensors must tile the data section: no hole, no overlap, nothing after the last. */
void checkTiling(const ParsedHeader& parsed, uint64_t dataBytes) {
  const std::vector<TensorInfo>& tensors = parsed.tensors;
  std::vector<uint32_t> order(tensors.size());
  std::iota(order.begin(), order.end(), 0u);
  const auto place = [&](uint32_t tensor) { return std::pair(tensors[tensor].begin, tensors[tensor].end); };
  // Writers put tensors in order, as a rule.
  if (!std::ranges::is_sorted(order, {}, place)) std::ranges::stable_sort(order, {}, place);
  uint64_t expected = 0;
  for (const uint32_t tensor : order) {
    const auto [begin, end] = place(tensor);
    if (begin != expected) {
      throw HeaderFault{"INVALID_OFFSET", "expected its data to begin at " + std::to_string(expected) + ", where the one before ends; it begins at " + std::to_string(begin), std::string(parsed.name(tensor)), true};
    }
    expected = end;
  }
  if (expected == dataBytes) return;
  const std::string held = ", the file holds " + std::to_string(dataBytes);
  throw HeaderFault{"METADATA_INCOMPLETE_BUFFER",
                    expected > dataBytes ? "the header promises " + std::to_string(expected) + " bytes of tensors" + held + "; it is cut short or still being written"
                                         : "the header covers " + std::to_string(expected) + " bytes of tensors" + held + "; the rest belongs to nothing",
                    {}, false};
}

}  // namespace

std::variant<ParsedHeader, HeaderFault> parseHeader(std::span<const unsigned char> header, uint64_t dataBytes) {
  if (header.empty() || header[0] != '{') {
    return HeaderFault{"INVALID_HEADER_START", "expected a header that starts with '{'; this is not a safetensors file, or it is still being written", {}, false};
  }
  if (!isUtf8(header)) return HeaderFault{"INVALID_HEADER_UTF8", "expected a header in UTF-8, found other bytes; download the file again", {}, false};
  try {
    ParsedHeader parsed = HeaderParser({reinterpret_cast<const char*>(header.data()), header.size()}).parse();
    checkTiling(parsed, dataBytes);
    return parsed;
  } catch (HeaderFault& fault) {
    return std::move(fault);
  } catch (const ScanFault& fault) {
    return HeaderFault{"INVALID_HEADER_JSON", "expected a JSON header, found " + fault.problem + " at position " + std::to_string(fault.at), {}, false};
  }
}

}  // namespace refit
