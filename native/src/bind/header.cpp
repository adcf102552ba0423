#include "header.h"

#include <memory>

#include "../container/header.h"
#include "arguments.h"
#include "async.h"

namespace refit::bind {
namespace {

/** `numbers` holds begin, end, rank and the dimensions of each tensor in turn; all are below 2^53. */
Napi::Value toJs(Napi::Env env, const ParsedHeader& parsed) {
  size_t length = 0;
  for (const TensorInfo& tensor : parsed.tensors) length += 3 + tensor.shape.size();
  auto names = Napi::Array::New(env, parsed.tensors.size());
  auto dtypes = Napi::Uint8Array::New(env, parsed.tensors.size());
  auto numbers = Napi::Float64Array::New(env, length);
  double* next = numbers.Data();
  uint32_t index = 0;
  for (const TensorInfo& tensor : parsed.tensors) {
    const Napi::HandleScope scope(env);
    names.Set(index, Napi::String::New(env, tensor.name));
    dtypes[index++] = tensor.dtype;
    *next++ = static_cast<double>(tensor.begin);
    *next++ = static_cast<double>(tensor.end);
    *next++ = static_cast<double>(tensor.shape.size());
    for (const uint64_t dim : tensor.shape) *next++ = static_cast<double>(dim);
  }
  auto metadata = Napi::Array::New(env, parsed.metadata.size() * 2);
  index = 0;
  for (const auto& [key, value] : parsed.metadata) {
    metadata.Set(index++, Napi::String::New(env, key));
    metadata.Set(index++, Napi::String::New(env, value));
  }
  auto out = Napi::Object::New(env);
  out.Set("names", names);
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

}  // namespace refit::bind
