#include "kernels.h"

#include <vector>

#include "../math/convert.h"
#include "../math/low_rank.h"
#include "arguments.h"
#include "async.h"

namespace refit::bind {
namespace {

Napi::Value undefined(Napi::Env env) { return env.Undefined(); }

/** Elements that a pass handles in about 10 us, less than waking a thread of the pool and coming back takes (50 to 100 us measured). */
constexpr size_t smallElements = 32 * 1024;
/** The same for the multiplications of a merge. */
constexpr size_t smallProducts = 512 * 1024;

/** Everything a merge needs after the call has returned; the memory behind the pointers is held by the job. */
struct MergeState {
  MergeJob job;
  std::vector<LowRankFactor> factors;
  CancelToken token;
  LossSums loss;
  double* lossOut = nullptr;
  bool finished = false;
};

}  // namespace

// (base, baseDtype, baseScale, out, outDtype, rows, cols, ups[], downs[], ranks[], scales[], token | null, loss sums | null) -> finished, or a promise of it
Napi::Value mergeLowRankCall(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto state = std::make_shared<MergeState>();
  const FloatDtype baseDtype = dtypeArgument(info[1]);
  const FloatDtype outDtype = dtypeArgument(info[4]);
  const size_t rows = countArgument(info[5]);
  const size_t cols = countArgument(info[6]);
  const size_t elements = product(env, rows, cols);
  const auto ups = info[7].As<Napi::Array>();
  const auto downs = info[8].As<Napi::Array>();
  const auto ranks = info[9].As<Napi::Array>();
  const auto scales = info[10].As<Napi::Array>();
  for (uint32_t i = 0; i < ups.Length(); ++i) {
    const size_t rank = countArgument(ranks.Get(i));
    state->factors.push_back({floatsArgument(ups.Get(i), product(env, rows, rank)), rank, floatsArgument(downs.Get(i), product(env, rank, cols)), rank, scales.Get(i).As<Napi::Number>().FloatValue()});
  }
  state->token = cancelArgument(info[11]);
  state->job = {bytesArgument(info[0], baseDtype, elements), baseDtype, info[2].As<Napi::Number>().FloatValue(), bytesArgument(info[3], outDtype, elements), outDtype, rows, cols, state->factors, state->token.get()};
  std::vector<Napi::Object> held = {info[0].As<Napi::Object>(), info[3].As<Napi::Object>(), ups, downs};
  if (info[12].IsTypedArray()) {
    state->lossOut = doublesArgument(info[12], 3);
    state->job.loss = &state->loss;
    held.push_back(info[12].As<Napi::Object>());
  }
  size_t depth = 0;
  for (const LowRankFactor& factor : state->factors) depth += factor.rank;
  const bool small = elements <= smallElements && elements * depth <= smallProducts;
  return runSmallOrAsync(env, small, {.held = std::move(held),
                        .work = [state] {
                          state->finished = mergeLowRank(state->job);
                          for (size_t i = 0; state->lossOut != nullptr && i < 3; ++i) state->lossOut[i] += state->loss.values[i];
                        },
                        .answer = [state](Napi::Env end) -> Napi::Value { return Napi::Boolean::New(end, state->finished); }});
}

// (a, b, m, k, n, out, scale, accumulate) -> undefined, or a promise of it
Napi::Value matmulCall(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const size_t m = countArgument(info[2]), k = countArgument(info[3]), n = countArgument(info[4]);
  const float* a = floatsArgument(info[0], product(env, m, k));
  const float* b = floatsArgument(info[1], product(env, k, n));
  float* out = floatsArgument(info[5], product(env, m, n));
  const float scale = info[6].As<Napi::Number>().FloatValue();
  const bool accumulate = info[7].As<Napi::Boolean>().Value();
  return runSmallOrAsync(env, static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k) <= smallProducts, {.held = {info[0].As<Napi::Object>(), info[1].As<Napi::Object>(), info[5].As<Napi::Object>()},
                        .work = [=] { matmul(a, b, m, k, n, out, scale, accumulate); },
                        .answer = undefined});
}

// (before | null, change, after, error | null, count, sums) -> undefined, or a promise of it
Napi::Value lossOfCall(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const size_t count = countArgument(info[4]);
  const float* before = info[0].IsTypedArray() ? floatsArgument(info[0], count) : nullptr;
  const float* change = floatsArgument(info[1], count);
  const float* after = floatsArgument(info[2], count);
  float* error = info[3].IsTypedArray() ? floatsArgument(info[3], count) : nullptr;
  double* sums = doublesArgument(info[5], 3);
  std::vector<Napi::Object> held = {info[1].As<Napi::Object>(), info[2].As<Napi::Object>(), info[5].As<Napi::Object>()};
  if (before != nullptr) held.push_back(info[0].As<Napi::Object>());
  if (error != nullptr) held.push_back(info[3].As<Napi::Object>());
  return runSmallOrAsync(env, count <= smallElements, {.held = std::move(held),
                        .work = [=] {
                          const LossSums loss = lossOf(before, change, after, error, count);
                          for (size_t i = 0; i < 3; ++i) sums[i] += loss.values[i];
                        },
                        .answer = undefined});
}

// (source, from, target, to, count, scale) -> undefined, or a promise of it
Napi::Value convertCall(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const FloatDtype from = dtypeArgument(info[1]), to = dtypeArgument(info[3]);
  const size_t count = countArgument(info[4]);
  const std::byte* source = bytesArgument(info[0], from, count);
  std::byte* target = bytesArgument(info[2], to, count);
  const double scale = info[5].As<Napi::Number>().DoubleValue();
  return runSmallOrAsync(env, count <= smallElements, {.held = {info[0].As<Napi::Object>(), info[2].As<Napi::Object>()},
                        .work = [=] { convert(source, from, target, to, count, scale, nullptr); },
                        .answer = undefined});
}

// (source, dtype, count) -> index or -1, or a promise of it
Napi::Value firstNonFiniteCall(const Napi::CallbackInfo& info) {
  const FloatDtype dtype = dtypeArgument(info[1]);
  const size_t count = countArgument(info[2]);
  const std::byte* source = bytesArgument(info[0], dtype, count);
  const auto found = std::make_shared<int64_t>(-1);
  return runSmallOrAsync(info.Env(), count <= smallElements, {.held = {info[0].As<Napi::Object>()},
                               .work = [=] { *found = firstNonFinite(source, dtype, count); },
                               .answer = [found](Napi::Env end) -> Napi::Value { return Napi::Number::New(end, static_cast<double>(*found)); }});
}

}  // namespace refit::bind
