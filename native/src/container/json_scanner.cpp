#include "json_scanner.h"

#include "limits.h"

namespace refit {
namespace {

void appendUtf8(std::string& out, uint32_t point) {
  if (point < 0x80) {
    out += static_cast<char>(point);
  } else if (point < 0x800) {
    out += static_cast<char>(0xc0 | point >> 6);
    out += static_cast<char>(0x80 | (point & 0x3f));
  } else if (point < 0x10000) {
    out += static_cast<char>(0xe0 | point >> 12);
    out += static_cast<char>(0x80 | (point >> 6 & 0x3f));
    out += static_cast<char>(0x80 | (point & 0x3f));
  } else {
    out += static_cast<char>(0xf0 | point >> 18);
    out += static_cast<char>(0x80 | (point >> 12 & 0x3f));
    out += static_cast<char>(0x80 | (point >> 6 & 0x3f));
    out += static_cast<char>(0x80 | (point & 0x3f));
  }
}

}  // namespace

void JsonScanner::fail(std::string_view problem) const { throw ScanFault{std::string(problem), at_}; }

char JsonScanner::peek() {
  while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\r' || text_[at_] == '\t')) ++at_;
  return at_ < text_.size() ? text_[at_] : '\0';
}

void JsonScanner::expect(char wanted) {
  // A NUL byte in the text also peeks as 0, which is never wanted.
  if (peek() != wanted) fail(std::string("something else than '") + wanted + "'");
  ++at_;
}

bool JsonScanner::accept(char wanted) {
  if (peek() != wanted) return false;
  ++at_;
  return true;
}

void JsonScanner::end() {
  peek();
  if (at_ != text_.size()) fail("text after the header object");
}

std::string_view JsonScanner::string(std::string& scratch) {
  expect('"');
  bool escaped = false;
  for (;;) {
    const size_t from = at_;
    while (at_ < text_.size() && text_[at_] != '"' && text_[at_] != '\\' && static_cast<unsigned char>(text_[at_]) >= 0x20) ++at_;
    if (at_ == text_.size()) fail("a string without its closing quote");
    const std::string_view piece = text_.substr(from, at_ - from);
    const char stop = text_[at_];
    if (stop != '"' && stop != '\\') fail("a control character inside a string");
    ++at_;
    if (stop == '"' && !escaped) return piece;
    if (!escaped) scratch.clear();
    escaped = true;
    scratch += piece;
    if (stop == '"') return scratch;
    escape(scratch);
  }
}

void JsonScanner::escape(std::string& out) {
  const char kind = at_ < text_.size() ? text_[at_++] : '\0';
  switch (kind) {
    case '"': case '\\': case '/': out += kind; return;
    case 'b': out += '\b'; return;
    case 'f': out += '\f'; return;
    case 'n': out += '\n'; return;
    case 'r': out += '\r'; return;
    case 't': out += '\t'; return;
    case 'u': break;
    default: fail("an unknown escape inside a string");
  }
  const uint32_t high = hex4();
  if (high < 0xd800 || high > 0xdfff) return appendUtf8(out, high);
  if (high > 0xdbff || text_.substr(at_, 2) != "\\u") fail("half of a surrogate pair");
  at_ += 2;
  const uint32_t low = hex4();
  if (low < 0xdc00 || low > 0xdfff) fail("half of a surrogate pair");
  appendUtf8(out, 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00));
}

uint32_t JsonScanner::hex4() {
  uint32_t value = 0;
  for (size_t i = 0; i < 4; ++i) {
    const char c = at_ + i < text_.size() ? text_[at_ + i] : '\0';
    const bool digit = c >= '0' && c <= '9';
    const char lower = static_cast<char>(c | 0x20);
    if (!digit && (lower < 'a' || lower > 'f')) fail("a \\u escape without four hex digits");
    value = value * 16 + static_cast<uint32_t>(digit ? c - '0' : lower - 'a' + 10);
  }
  at_ += 4;
  return value;
}

std::optional<uint64_t> JsonScanner::unsignedInteger() {
  peek();
  const size_t start = at_;
  uint64_t value = 0;
  bool fits = true;
  for (; atDigit(); ++at_) {
    value = value * 10 + static_cast<uint64_t>(text_[at_] - '0');
    if (value > maxSafeInteger) {
      fits = false;
      value = maxSafeInteger;  // keeps the sum from wrapping; the answer is "too large" whatever follows
    }
  }
  if (at_ == start) fail("expected an unsigned integer");
  if (at_ - start > 1 && text_[start] == '0') fail("an integer with a leading zero");
  if (at_ < text_.size() && (text_[at_] == '.' || text_[at_] == 'e' || text_[at_] == 'E')) fail("expected an unsigned integer, found a fraction or an exponent");
  return fits ? std::optional(value) : std::nullopt;
}

void JsonScanner::skipValue(int depth) {
  if (depth >= maxDepth) fail("values nested too deep");
  switch (peek()) {
    case '"': {
      std::string scratch;
      string(scratch);
      return;
    }
    case '{': object([&](std::string_view) { skipValue(depth + 1); }); return;
    case '[': array([&] { skipValue(depth + 1); }); return;
    default: literal();
  }
}

void JsonScanner::literal() {
  for (const std::string_view word : {"true", "false", "null"}) {
    if (text_.substr(at_, word.size()) == word) {
      at_ += word.size();
      return;
    }
  }
  number();
}

void JsonScanner::digits() {
  if (!atDigit()) fail("expected a value");
  while (atDigit()) ++at_;
}

void JsonScanner::number() {
  if (at_ < text_.size() && text_[at_] == '-') ++at_;
  if (at_ < text_.size() && text_[at_] == '0') ++at_;
  else digits();
  if (at_ < text_.size() && text_[at_] == '.') {
    ++at_;
    digits();
  }
  if (at_ < text_.size() && (text_[at_] == 'e' || text_[at_] == 'E')) {
    ++at_;
    if (at_ < text_.size() && (text_[at_] == '+' || text_[at_] == '-')) ++at_;
    digits();
  }
}

}  // namespace refit
