// [main] Entry points of the kernels: arguments checked, work handed to the thread pool and a promise returned; small work is done at once and its value returned. Shapes as in ts/addon/binding.ts.
#pragma once

#include <napi.h>

namespace refit::bind {

Napi::Value mergeLowRankCall(const Napi::CallbackInfo& info);
Napi::Value matmulCall(const Napi::CallbackInfo& info);
Napi::Value lossOfCall(const Napi::CallbackInfo& info);
Napi::Value convertCall(const Napi::CallbackInfo& info);
Napi::Value firstNonFiniteCall(const Napi::CallbackInfo& info);

}  // namespace refit::bind
