#pragma once

#include <napi.h>

namespace refit::bind {

/** [main] (header: Uint8Array, dataBytes) -> Promise<{ names, dtypes, numbers, metadata } | { code, problem, tensor }>. Flat arrays: one object a tensor is made in JavaScript, faster. */
Napi::Value parseHeaderCall(const Napi::CallbackInfo& info);

}  // namespace refit::bind
