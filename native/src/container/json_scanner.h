#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace refit {

/** Why a text is not the JSON we accept. Thrown and caught inside parseHeader only. */
struct ScanFault {
  std::string problem;
  size_t at;  // byte
};

/**
 * A strict RFC 8259 scanner over text that is already known to be UTF-8. Same rules as fallback/scan-json.ts: no library parser here reports
 * duplicate keys and keeps integers whole. Every call throws ScanFault on anything else than what it names.
 */
class JsonScanner {
 public:
  explicit JsonScanner(std::string_view text) : text_(text) {}

  [[noreturn]] void fail(std::string_view problem) const;
  /** The next significant byte without taking it; 0 at the end. */
  char peek();
  void expect(char wanted);
  bool accept(char wanted);
  void end();
  /** A string's text: a view of the header itself, or of `scratch` when escapes had to be resolved. */
  std::string_view string(std::string& scratch);
  /** A plain unsigned integer; nothing when it is above 2^53 - 1, which JavaScript cannot hold. */
  std::optional<uint64_t> unsignedInteger();
  /** Any value, checked and dropped: fields that the container does not define. */
  void skipValue(int depth = 0);

  /** Calls `member(key)` after each `"key":`; it must take the value. The key lives until `member` returns. Duplicate keys are the caller's to find. */
  template <typename Member>
  void object(Member member) {
    expect('{');
    if (accept('}')) return;
    std::string scratch;
    do {
      const std::string_view key = string(scratch);
      expect(':');
      member(key);
    } while (accept(','));
    expect('}');
  }

  template <typename Element>
  void array(Element element) {
    expect('[');
    if (accept(']')) return;
    do element();
    while (accept(','));
    expect(']');
  }

 private:
  bool atDigit() const { return at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9'; }
  void escape(std::string& out);
  uint32_t hex4();
  void literal();
  void number();
  void digits();

  std::string_view text_;
  size_t at_ = 0;
};

}  // namespace refit
