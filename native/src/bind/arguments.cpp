#include "arguments.h"

#include <limits>

namespace refit::bind {
namespace {

constexpr double maxCount = 9007199254740991.0;  // 2^53 - 1

[[noreturn]] void refuse(Napi::Env env, const char* what) { throw Napi::RangeError::New(env, what); }

}  // namespace

FloatDtype dtypeArgument(Napi::Value value) {
  const uint32_t index = value.As<Napi::Number>().Uint32Value();
  if (index >= floatDtypeCount) refuse(value.Env(), "expected the position of a float dtype");
  return static_cast<FloatDtype>(index);
}

size_t countArgument(Napi::Value value) {
  const double count = value.As<Napi::Number>().DoubleValue();
  if (!(count >= 0 && count <= maxCount) || count > static_cast<double>(std::numeric_limits<size_t>::max() / 2)) refuse(value.Env(), "expected a non-negative count");
  return static_cast<size_t>(count);
}

size_t product(Napi::Env env, size_t a, size_t b) {
  if (b != 0 && a > std::numeric_limits<size_t>::max() / 2 / b) refuse(env, "a product of sizes overflows");
  return a * b;
}

std::byte* bytesArgument(Napi::Value value, FloatDtype dtype, size_t count) {
  if (!value.IsTypedArray()) refuse(value.Env(), "expected a Uint8Array");
  auto array = value.As<Napi::Uint8Array>();
  if (array.TypedArrayType() != napi_uint8_array || array.ByteLength() < product(value.Env(), count, bytesOf(dtype))) refuse(value.Env(), "a byte array is shorter than its job");
  return reinterpret_cast<std::byte*>(array.Data());
}

float* floatsArgument(Napi::Value value, size_t count) {
  if (!value.IsTypedArray()) refuse(value.Env(), "expected a Float32Array");
  auto array = value.As<Napi::Float32Array>();
  if (array.TypedArrayType() != napi_float32_array || array.ElementLength() < count) refuse(value.Env(), "a float array is shorter than its job");
  return array.Data();
}

double* doublesArgument(Napi::Value value, size_t count) {
  if (!value.IsTypedArray()) refuse(value.Env(), "expected a Float64Array");
  auto array = value.As<Napi::Float64Array>();
  if (array.TypedArrayType() != napi_float64_array || array.ElementLength() < count) refuse(value.Env(), "a double array is shorter than its job");
  return array.Data();
}

Napi::Value createCancel(const Napi::CallbackInfo& info) {
  auto* token = new CancelToken(std::make_shared<std::atomic<bool>>(false));
  return Napi::External<CancelToken>::New(info.Env(), token, [](Napi::Env, CancelToken* owned) { delete owned; });
}

void cancel(const Napi::CallbackInfo& info) {
  if (const CancelToken token = cancelArgument(info[0])) token->store(true, std::memory_order_relaxed);
}

CancelToken cancelArgument(Napi::Value value) {
  if (!value.IsExternal()) return nullptr;
  return *value.As<Napi::External<CancelToken>>().Data();
}

}  // namespace refit::bind
