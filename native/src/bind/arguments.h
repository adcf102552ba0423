#pragma once

#include <napi.h>

#include <atomic>
#include <memory>

#include "../math/dtype.h"

namespace refit::bind {

/** Second line of checks: ts/check-job.ts has said no politely before; here a wrong size must never become a wild pointer. All throw Napi::Error. */
FloatDtype dtypeArgument(Napi::Value value);
size_t countArgument(Napi::Value value);
/** The memory of a Uint8Array that holds at least `count` elements. */
std::byte* bytesArgument(Napi::Value value, FloatDtype dtype, size_t count);
float* floatsArgument(Napi::Value value, size_t count);
double* doublesArgument(Napi::Value value, size_t count);
/** a * b, or an error when it is not a size. */
size_t product(Napi::Env env, size_t a, size_t b);

/** Shared by the job and the JavaScript token, whichever lives longer. */
using CancelToken = std::shared_ptr<std::atomic<bool>>;
Napi::Value createCancel(const Napi::CallbackInfo& info);
void cancel(const Napi::CallbackInfo& info);
/** Null for a JavaScript null. */
CancelToken cancelArgument(Napi::Value value);

}  // namespace refit::bind
