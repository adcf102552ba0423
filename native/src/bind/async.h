#pragma once

#include <napi.h>

#include <functional>
#include <vector>

namespace refit::bind {

/** A job for libuv's thread pool. `held` values are kept alive until it has ended: the job works on their memory by raw pointer. */
struct AsyncJob {
  std::vector<Napi::Object> held;
  /** [worker] May throw std::exception, which rejects the promise; it touches no JavaScript value. */
  std::function<void()> work;
  /** [main] Makes the promise's value afterwards. */
  std::function<Napi::Value(Napi::Env)> answer;
};

/** [main] Starts the job and returns its promise at once. */
Napi::Promise runAsync(Napi::Env env, AsyncJob job);

/** [main] As runAsync; a job that is done before a thread of the pool would have begun runs here and now, and its value is returned instead of a promise. */
Napi::Value runSmallOrAsync(Napi::Env env, bool small, AsyncJob job);

}  // namespace refit::bind
