// Data parallelism over the OpenMP threads that oneDNN uses too: one pool, no oversubscription.
#pragma once

#include <cstdint>
#include <functional>

namespace faq {

/// Threads used by kernels (OpenMP's). 0 restores the default: all cores this process may run on.
void set_num_threads(int threads);
/// 1 inside a parallel_for: what is parallel already runs its kernels alone.
int num_threads();

/// Calls body(begin, end) on disjoint ranges that cover [0, n), each (but the last) at least `grain` long.
/// The body must not throw.
void parallel_for(std::int64_t n, std::int64_t grain,
                  const std::function<void(std::int64_t, std::int64_t)>& body);

}  // namespace faq
