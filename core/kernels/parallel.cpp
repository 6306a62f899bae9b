#include "core/parallel.h"

#include <omp.h>

#include <algorithm>
#include <exception>
#include <vector>

namespace faq {

namespace {

// Before anything changed it: OMP_NUM_THREADS, or the cores this process may run on.
const int threads_at_start = omp_get_max_threads();

}  // namespace

void set_num_threads(int threads) { omp_set_num_threads(threads > 0 ? threads : threads_at_start); }

int num_threads() { return omp_in_parallel() ? 1 : omp_get_max_threads(); }

void parallel_for(std::int64_t n, std::int64_t grain,
                  const std::function<void(std::int64_t, std::int64_t)>& body) {
  if (n <= 0) return;
  const std::int64_t parts = std::clamp<std::int64_t>(n / std::max<std::int64_t>(grain, 1), 1, num_threads());
  if (parts == 1) {
    body(0, n);
    return;
  }
  std::vector<std::exception_ptr> errors(parts);
#pragma omp parallel for num_threads(static_cast <int>(parts)) schedule(static)
  for (std::int64_t part = 0; part < parts; ++part) {
    omp_set_num_threads(1);  // of this thread, until the loop ends: oneDNN plans its primitives by it
    try {
      body(n * part / parts, n * (part + 1) / parts);
    } catch (...) {
      errors[part] = std::current_exception();
    }
  }
  for (const auto& error : errors) {
    if (error) std::rethrow_exception(error);
  }
}

int num_shares(std::int64_t n) {
  const int threads = num_threads();
  const bool even = n >= 4 * threads || n % threads == 0;
  return even ? threads : 1;
}

void parallel_shares(std::int64_t n, const std::function<void(std::int64_t, std::int64_t, int)>& body) {
  if (n <= 0) return;
  const std::int64_t shares = num_shares(n);
  parallel_for(shares, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t share = begin; share < end; ++share)
      body(n * share / shares, n * (share + 1) / shares, static_cast<int>(share));
  });
}

}  // namespace faq
