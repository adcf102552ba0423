#pragma once

#include <napi.h>

namespace refit::bind {

/** [main] (header: Uint8Array, dataBytes) -> Promise<{ names, dtypes, numbers, metadata } | { code, problem, tensor }>. Flat arrays: one object a tensor is made in JavaScript, faster. */
Napi::Value parseHeaderCall(const Napi::CallbackInfo& info);

/** [main or a worker thread of Node] The same, done before it returns. */
Napi::Value parseHeaderSyncCall(const Napi::CallbackInfo& info);

}  // namespace refit::bind
