#pragma once

#include <cstdint>
#include <cstring>
#include <span>

namespace refit {

/** Strict UTF-8 as the Unicode standard's table 3-7: no overlong forms, no surrogates, nothing above U+10FFFF. */
inline bool isUtf8(std::span<const unsigned char> text) {
  const size_t size = text.size();
  for (size_t i = 0; i < size;) {
    const unsigned char lead = text[i];
    if (lead < 0x80) {
      ++i;
      // Headers are plain ASCII but for a name here and there: eight bytes at a time.
      for (uint64_t eight; size - i >= sizeof eight; i += sizeof eight) {
        std::memcpy(&eight, text.data() + i, sizeof eight);
        if ((eight & 0x8080808080808080u) != 0) break;
      }
      continue;
    }
    size_t length = 0;
    unsigned char low = 0x80, high = 0xbf;  // bounds of the second byte
    if (lead >= 0xc2 && lead <= 0xdf) length = 2;
    else if (lead >= 0xe0 && lead <= 0xef) length = 3;
    else if (lead >= 0xf0 && lead <= 0xf4) length = 4;
    else return false;
    if (lead == 0xe0) low = 0xa0;
    if (lead == 0xed) high = 0x9f;
    if (lead == 0xf0) low = 0x90;
    if (lead == 0xf4) high = 0x8f;
    if (size - i < length || text[i + 1] < low || text[i + 1] > high) return false;
    for (size_t j = 2; j < length; ++j) {
      if ((text[i + j] & 0xc0) != 0x80) return false;
    }
    i += length;
  }
  return true;
}

}  // namespace refit
