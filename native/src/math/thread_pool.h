#pragma once

#include <cstddef>
#include <functional>

namespace refit {

/** Threads that work on one job at a time beside the caller; REFIT_THREADS overrides the number of cores. Made on first use. */
size_t threadCount();

/**
 * [worker] Calls `work(index)` for every index below `count`, on the pool's threads and the caller's, and returns when all are done. `work` must not
 * throw. Which thread takes an index is left to chance, so results must not depend on it.
 */
void parallelFor(size_t count, const std::function<void(size_t)>& work);

}  // namespace refit
