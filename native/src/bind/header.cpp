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
  size_t numberCount = 0;
  size_t nameBytes = 0;
  for (const TensorInfo& tensor : parsed.tensors) {
    numberCount += 3 + tensor.shape.size();
    nameBytes += tensor.name.size();
  }
  std::string names;
  names.reserve(nameBytes);
  auto nameEnds = Napi::Uint32Array::New(env, parsed.tensors.size());
  auto numberStarts = Napi::Uint32Array::New(env, parsed.tensors.size());
  auto dtypes = Napi::Uint8Array::New(env, parsed.tensors.size());
  auto numbers = Napi::Float64Array::New(env, numberCount);
  uint32_t* ends = nameEnds.Data();
  uint32_t* starts = numberStarts.Data();
  uint8_t* types = dtypes.Data();
  double* const firstNumber = numbers.Data();
  double* next = firstNumber;
  uint32_t units = 0;
  for (const TensorInfo& tensor : parsed.tensors) {
    names += tensor.name;
    units += utf16Length(tensor.name);
    *ends++ = units;
    *starts++ = static_cast<uint32_t>(next - firstNumber);
    *types++ = tensor.dtype;
    *next++ = static_cast<double>(tensor.begin);
    *next++ = static_cast<double>(tensor.end);
    *next++ = static_cast<double>(tensor.shape.size());
    for (const uint64_t dim : tensor.shape) *next++ = static_cast<double>(dim);
  }
  uint32_t index = 0;
  auto metadata = Napi::Array::New(env, parsed.metadata.size() * 2);
  for (const auto& [key, value] : parsed.metadata) {
    metadata.Set(index++, Napi::String::New(env, key));
    metadata.Set(index++, Napi::String::New(env, value));
  }
  auto out = Napi::Object::New(env);
  out.Set("names", names);
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
