#include "async.h"

#include <exception>

namespace refit::bind {
namespace {

class PromiseWorker final : public Napi::AsyncWorker {
 public:
  PromiseWorker(Napi::Env env, AsyncJob job) : AsyncWorker(env, "refit"), deferred_(env), work_(std::move(job.work)), answer_(std::move(job.answer)) {
    held_.reserve(job.held.size());
    for (const Napi::Object& value : job.held) held_.push_back(Napi::Persistent(value));
  }

  Napi::Promise promise() const { return deferred_.Promise(); }

 private:
  // AsyncWorker catches what Execute throws and hands it to OnError on the main thread: no exception crosses a thread.
  void Execute() override { work_(); }
  void OnOK() override { deferred_.Resolve(answer_(Env())); }
  void OnError(const Napi::Error& error) override { deferred_.Reject(error.Value()); }

  Napi::Promise::Deferred deferred_;
  std::function<void()> work_;
  std::function<Napi::Value(Napi::Env)> answer_;
  std::vector<Napi::ObjectReference> held_;
};

}  // namespace

Napi::Promise runAsync(Napi::Env env, AsyncJob job) {
  auto* worker = new PromiseWorker(env, std::move(job));  // deletes itself when done, as every AsyncWorker
  worker->Queue();
  return worker->promise();
}

Napi::Value runSmallOrAsync(Napi::Env env, bool small, AsyncJob job) {
  if (!small) return runAsync(env, std::move(job));
  try {
    job.work();
  } catch (const std::exception& error) {
    throw Napi::Error::New(env, error.what());
  }
  return job.answer(env);
}

}  // namespace refit::bind
