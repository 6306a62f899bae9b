#include "core/parallel.h"

#include <omp.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <exception>
#include <system_error>
#include <thread>
#include <vector>

#include "core/cpu_limit.h"
#include "core/error.h"
#include "core/kernels/granted_threads.h"

namespace faq {

namespace {

// Reads the limits before anything changes them.
ThreadLimits limits_at_start() {
  using Source = ThreadLimits::Source;
  ThreadLimits limits;
  limits.available = std::max(omp_get_num_procs(), 1);
  limits.machine = std::max(static_cast<int>(::sysconf(_SC_NPROCESSORS_ONLN)), limits.available);
  if (limits.available < limits.machine) limits.limited_by = Source::affinity;
  if (const auto quota = cpu_quota(); quota && threads_for_quota(*quota) < limits.available) {
    limits.available = threads_for_quota(*quota);
    limits.limited_by = Source::quota;
  }
  limits.threads = omp_get_max_threads();
  limits.source = Source::environment;
  if (limits.threads > most_threads) omp_set_num_threads(limits.threads = most_threads);
  // If the environment sets nothing, OpenMP uses the CPUs the process may run on, and ignores a quota.
  if (std::getenv("OMP_NUM_THREADS") == nullptr && limits.threads >= limits.available) {
    limits.threads = limits.available;
    limits.source = limits.limited_by;
    omp_set_num_threads(limits.threads);
  }
  return limits;
}

// Throws out_of_memory when the system does not start as many threads as a team has. OpenMP would end the
// process, with exit code 1.
void check_team_can_start(int threads) {
  std::atomic<bool> over = false;
  std::vector<std::thread> others;
  const auto end_all = [&] {
    over = true;
    over.notify_all();
    for (std::thread& other : others) other.join();
  };
  try {
    others.reserve(static_cast<std::size_t>(threads - 1));
    while (std::ssize(others) < threads - 1) others.emplace_back([&over] { over.wait(false); });
  } catch (const std::system_error& error) {
    const auto started = std::ssize(others) + 1;
    end_all();
    fail(ErrorKind::out_of_memory, "expected ", threads, " threads, the system started ", started, ": ",
         error.code().message());
  } catch (...) {
    end_all();
    throw;
  }
  end_all();
}

// The size of a team that was asked for, on the calling thread. A limit (OMP_THREAD_LIMIT,
// OMP_MAX_ACTIVE_LEVELS, or one of the OpenMP library's own) makes it smaller, without a word. Every thread
// measures for itself, because some of these limits are of all teams together.
int granted(int asked) {
  struct Team {
    int asked = 1, granted = 1;
  };
  thread_local Team last;
  asked = std::min(asked, omp_get_thread_limit());
  if (asked <= 1) return 1;
  if (asked == last.granted)
    return asked;  // as GrantedThreads asks again: what was granted once needs no new team
  if (last.asked != asked) {
    check_team_can_start(asked);
    const int dynamic = omp_get_dynamic();
    omp_set_dynamic(0);
    int team = 1;
#pragma omp parallel num_threads(asked)
    {
#pragma omp single
      team = omp_get_num_threads();
    }
    omp_set_dynamic(dynamic);
    last = {asked, team};
  }
  return last.granted;
}

// Runs before main. Nothing has been changed yet, and the first thread has the default from the start.
[[maybe_unused]] const ThreadLimits& at_start = thread_limits();

}  // namespace

const ThreadLimits& thread_limits() {
  static const ThreadLimits limits = limits_at_start();
  return limits;
}

void set_num_threads(int threads) { omp_set_num_threads(threads > 0 ? threads : thread_limits().threads); }

int num_threads() { return omp_in_parallel() ? 1 : granted(omp_get_max_threads()); }

kernels::GrantedThreads::GrantedThreads() : threads_(omp_get_max_threads()), dynamic_(omp_get_dynamic()) {
  const int granted = num_threads();
  if (granted != threads_) omp_set_num_threads(granted);
  if (dynamic_ != 0) omp_set_dynamic(0);
}

kernels::GrantedThreads::~GrantedThreads() {
  if (omp_get_max_threads() != threads_) omp_set_num_threads(threads_);
  if (dynamic_ != 0) omp_set_dynamic(dynamic_);
}

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
    omp_set_num_threads(1);  // until the loop ends; oneDNN plans its primitives for this number
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
