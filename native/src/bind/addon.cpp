// The addon's surface, as ts/addon/binding.ts declares it.
#include <napi.h>

#include "../math/kernel_set.h"
#include "../math/thread_pool.h"
#include "arguments.h"
#include "header.h"
#include "kernels.h"

namespace refit::bind {
namespace {

Napi::Object init(Napi::Env env, Napi::Object exports) {
  exports.Set("version", 5.0);  // bindingVersion in ts/addon/binding.ts
  exports.Set("simd", kernels().name);
  exports.Set("threads", static_cast<double>(threadCount()));
  exports.Set("createCancel", Napi::Function::New(env, createCancel));
  exports.Set("cancel", Napi::Function::New(env, cancel));
  exports.Set("parseHeader", Napi::Function::New(env, parseHeaderCall));
  exports.Set("parseHeaderSync", Napi::Function::New(env, parseHeaderSyncCall));
  exports.Set("mergeLowRank", Napi::Function::New(env, mergeLowRankCall));
  exports.Set("lossOf", Napi::Function::New(env, lossOfCall));
  exports.Set("matmul", Napi::Function::New(env, matmulCall));
  exports.Set("convert", Napi::Function::New(env, convertCall));
  exports.Set("firstNonFinite", Napi::Function::New(env, firstNonFiniteCall));
  return exports;
}

}  // namespace

NODE_API_MODULE(refit_native, init)

}  // namespace refit::bind
