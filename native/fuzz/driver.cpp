// Stands in for libFuzzer where clang is absent: the same targets, inputs mutated at random without coverage to steer by.
// usage: target SECONDS SEED FILE...   Prints "runs: N"; an input that fails is left in crash.bin before it runs.
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <random>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

using Bytes = std::vector<uint8_t>;

Bytes readFile(const char* path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

Bytes mutate(Bytes bytes, const Bytes& other, std::mt19937& random) {
  const auto below = [&](size_t limit) { return limit == 0 ? 0 : random() % limit; };
  for (size_t change = 0; change <= below(4); ++change) {
    const size_t at = below(bytes.size() + 1);
    switch (below(5)) {
      case 0: if (at < bytes.size()) bytes[at] ^= static_cast<uint8_t>(1u << below(8)); break;
      case 1: if (at < bytes.size()) bytes[at] = static_cast<uint8_t>(random()); break;
      case 2: bytes.erase(bytes.begin() + static_cast<long>(at), bytes.begin() + static_cast<long>(at + below(bytes.size() - at + 1))); break;
      case 3: bytes.insert(bytes.begin() + static_cast<long>(at), other.begin() + static_cast<long>(below(other.size() + 1)), other.end()); break;
      default: bytes.insert(bytes.begin() + static_cast<long>(at), below(8), static_cast<uint8_t>("{}[]\",:0\\"[below(9)])); break;
    }
    if (bytes.size() > 4096) bytes.resize(4096);
  }
  return bytes;
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 4) return 2;
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(std::atoi(arguments[1]));
  std::mt19937 random(static_cast<unsigned>(std::atoi(arguments[2])));
  std::vector<Bytes> seeds;
  for (int i = 3; i < count; ++i) seeds.push_back(readFile(arguments[i]));
  unsigned long runs = 0;
  while (std::chrono::steady_clock::now() < end) {
    for (int i = 0; i < 64; ++i, ++runs) {
      const Bytes input = mutate(seeds[random() % seeds.size()], seeds[random() % seeds.size()], random);
      std::ofstream("crash.bin", std::ios::binary).write(reinterpret_cast<const char*>(input.data()), static_cast<long>(input.size()));
      LLVMFuzzerTestOneInput(input.data(), input.size());
    }
  }
  std::remove("crash.bin");
  std::printf("runs: %lu\n", runs);
}
