// Fuzz target: the header check on arbitrary bytes. Input: 4 bytes of data length, then the header. Whatever is accepted must keep its promises.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <set>
#include <string>
#include <vector>

#include "../src/container/header.h"

namespace {

void demand(bool holds) {
  if (!holds) std::abort();
}

void checkPromises(const refit::ParsedHeader& parsed, uint64_t dataBytes) {
  std::set<std::string> names;
  std::vector<std::pair<uint64_t, uint64_t>> ranges;
  for (size_t i = 0; i < parsed.tensors.size(); ++i) {
    const refit::TensorInfo& tensor = parsed.tensors[i];
    demand(names.emplace(parsed.name(i)).second && parsed.name(i) != "__metadata__");
    unsigned __int128 bits = refit::containerDtypes.at(tensor.dtype).bits;
    for (const uint64_t dim : parsed.shape(i)) bits *= dim;
    demand(tensor.begin <= tensor.end && tensor.end <= dataBytes && bits % 8 == 0 && bits / 8 == tensor.end - tensor.begin);
    ranges.emplace_back(tensor.begin, tensor.end);
  }
  std::sort(ranges.begin(), ranges.end());
  uint64_t end = 0;
  for (const auto& range : ranges) {
    demand(range.first == end);
    end = range.second;
  }
  demand(end == dataBytes);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 4) return 0;
  uint32_t dataBytes;
  std::memcpy(&dataBytes, data, 4);
  // A copy of exactly this size: one byte read too far is seen.
  const std::vector<unsigned char> header(data + 4, data + size);
  const auto result = refit::parseHeader(header, dataBytes);
  if (const auto* parsed = std::get_if<refit::ParsedHeader>(&result)) checkPromises(*parsed, dataBytes);
  else demand(!std::get<refit::HeaderFault>(result).code.empty() && !std::get<refit::HeaderFault>(result).problem.empty());
  return 0;
}
