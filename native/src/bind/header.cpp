#include "header.h"

#include <memory>
#include <string>
#include <string_view>

#include "../container/header.h"
#include "arguments.h"
#include "async.h"

namespace refit::bind {
namespace {

/** Length of UTF-8 text once it is a JavaScript string: one unit a character, two above U+FFFF. */
uint32_t utf16Length(std::string_view text) {
  uint32_t units = 0;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    units += (byte & 0xc0) != 0x80;
    units += byte >= 0xf0;
  }
  return units;
}

/**
 * The names as one string, because thousands of calls into the engine cost more than the whole check. `nameEnds` and `numberStarts` tell where each
 * tensor's name ends and its numbers start; `numbers` holds begin, end, rank and the dimensions; all are below 2^53.
 */
Napi::Value toJs(Napi::Env env, const ParsedHeader& parsed) {
  const size_t count = parsed.tensors.size();
  auto nameEnds = Napi::Uint32Array::New(env, count);
  auto numberStarts = Napi::Uint32Array::New(env, count);
  auto dtypes = Napi::Uint8Array::New(env, count);
  auto numbers = Napi::Float64Array::New(env, count * 3 + parsed.dims.size());
  uint32_t* const ends = nameEnds.Data();
  uint32_t* const starts = numberStarts.Data();
  uint8_t* const types = dtypes.Data();
  double* const firstNumber = numbers.Data();
  double* next = firstNumber;
  uint32_t units = 0;
  for (size_t i = 0; i < count; ++i) {
    const TensorInfo& tensor = parsed.tensors[i];
    units += utf16Length(parsed.name(i));
    ends[i] = units;
    starts[i] = static_cast<uint32_t>(next - firstNumber);
    types[i] = tensor.dtype;
    *next++ = static_cast<double>(tensor.begin);
    *next++ = static_cast<double>(tensor.end);
    *next++ = static_cast<double>(tensor.rank);
    for (const uint64_t dim : parsed.shape(i)) *next++ = static_cast<double>(dim);
  }
  uint32_t index = 0;
  auto metadata = Napi::Array::New(env, parsed.metadata.size() * 2);
  for (const auto& [key, value] : parsed.metadata) {
    metadata.Set(index++, Napi::String::New(env, key));
    metadata.Set(index++, Napi::String::New(env, value));
  }
  auto out = Napi::Object::New(env);
  out.Set("names", parsed.names);
  out.Set("nameEnds", nameEnds);
  out.Set("numberStarts", numberStarts);
  out.Set("dtypes", dtypes);
  out.Set("numbers", numbers);
  out.Set("metadata", metadata);
  return out;
}

Napi::Value toJs(Napi::Env env, const HeaderFault& fault) {
  auto out = Napi::Object::New(env);
  out.Set("code", std::string(fault.code));
  out.Set("problem", fault.problem);
  out.Set("tensor", fault.namesTensor ? Napi::Value(Napi::String::New(env, fault.tensor)) : env.Null());
  return out;
}

}  // namespace

Napi::Value parseHeaderCall(const Napi::CallbackInfo& info) {
  const size_t size = info[0].IsTypedArray() ? info[0].As<Napi::TypedArray>().ByteLength() : 0;
  const auto* bytes = reinterpret_cast<const unsigned char*>(bytesArgument(info[0], FloatDtype::F8_E4M3, size));
  const uint64_t dataBytes = countArgument(info[1]);
  const auto result = std::make_shared<std::variant<ParsedHeader, HeaderFault>>();
  return runAsync(info.Env(), {.held = {info[0].As<Napi::Object>()},
                               .work = [=] { *result = parseHeader({bytes, size}, dataBytes); },
                               .answer = [result](Napi::Env env) { return std::visit([env](const auto& each) { return toJs(env, each); }, *result); }});
}

Napi::Value parseHeaderSyncCall(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const size_t size = info[0].IsTypedArray() ? info[0].As<Napi::TypedArray>().ByteLength() : 0;
  const auto* bytes = reinterpret_cast<const unsigned char*>(bytesArgument(info[0], FloatDtype::F8_E4M3, size));
  const auto result = parseHeader({bytes, size}, countArgument(info[1]));
  return std::visit([env](const auto& each) { return toJs(env, each); }, result);
}

}  // namespace refit::bind
