#include "thread_pool.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <deque>
#include <memory>
#include <mutex>
#include <system_error>
#include <thread>

namespace refit {
namespace {

constexpr size_t maxThreads = 256;

/** Indices of one parallelFor, handed out by an atomic counter. Shared: a pool thread may look at it after the caller has gone. */
struct Job {
  Job(size_t total, const std::function<void(size_t)>& function) : count(total), work(&function) {}
  const size_t count;
  const std::function<void(size_t)>* const work;
  std::atomic<size_t> next{0};
  std::atomic<size_t> done{0};
  std::mutex mutex;
  std::condition_variable finished;

  bool exhausted() const { return next.load(std::memory_order_relaxed) >= count; }

  void run() {
    for (size_t index = next.fetch_add(1); index < count; index = next.fetch_add(1)) {
      (*work)(index);
      if (done.fetch_add(1) + 1 == count) {
        const std::lock_guard lock(mutex);
        finished.notify_all();
      }
    }
  }

  void wait() {
    std::unique_lock lock(mutex);
    finished.wait(lock, [this] { return done.load() == count; });
  }
};

class Pool {
 public:
  explicit Pool(size_t threads) {
    for (size_t i = 1; i < threads; ++i) {
      try {
        std::thread([this] { loop(); }).detach();
      } catch (const std::system_error&) {
        return;  // Fewer threads are slower, not wrong: the caller always works too.
      }
    }
  }

  void run(size_t count, const std::function<void(size_t)>& work) {
    const auto job = std::make_shared<Job>(count, work);
    {
      const std::lock_guard lock(mutex_);
      jobs_.push_back(job);
    }
    wake_.notify_all();
    job->run();
    job->wait();
    const std::lock_guard lock(mutex_);
    std::erase(jobs_, job);
  }

 private:
  void loop() {
    for (;;) {
      std::shared_ptr<Job> job;
      {
        std::unique_lock lock(mutex_);
        // The job is taken where it is found: its last index may go to another thread at any moment, so a second look could find none.
        wake_.wait(lock, [&] {
          for (const auto& each : jobs_) {
            if (each->exhausted()) continue;
            job = each;
            return true;
          }
          return false;
        });
      }
      job->run();
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::shared_ptr<Job>> jobs_;
};

size_t chooseThreads() {
  if (const char* wanted = std::getenv("REFIT_THREADS"); wanted != nullptr) {
    const long number = std::strtol(wanted, nullptr, 10);
    if (number >= 1) return std::min<size_t>(static_cast<size_t>(number), maxThreads);
  }
  return std::clamp<size_t>(std::thread::hardware_concurrency(), 1, maxThreads);
}

/** Never destroyed: joining threads while a library is being unloaded deadlocks on Windows, and idle threads end with the process. */
Pool& pool() {
  static Pool& instance = *new Pool(threadCount());
  return instance;
}

}  // namespace

size_t threadCount() {
  static const size_t count = chooseThreads();
  return count;
}

void parallelFor(size_t count, const std::function<void(size_t)>& work) {
  if (count <= 1 || threadCount() == 1) {
    for (size_t i = 0; i < count; ++i) work(i);
    return;
  }
  pool().run(count, work);
}

}  // namespace refit
