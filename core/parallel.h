// Data parallelism over the OpenMP threads that oneDNN uses too: one pool, no oversubscription.
#pragma once

#include <cstdint>
#include <functional>

namespace faq {

/// What the number of threads is by default, and why.
struct ThreadLimits {
  enum class Source {
    environment,  ///< OMP_NUM_THREADS, or another of OpenMP's variables
    quota,        ///< of CPU time, in a container's control groups (core/cpu_limit.h)
    affinity,     ///< the CPUs this process may run on
    machine,      ///< all CPUs there are
  };
  int threads = 1;  ///< the default
  Source source = Source::machine;
  int available = 1;  ///< CPUs for this process: what its quota and its affinity leave of the machine
  Source limited_by = Source::machine;  ///< what makes them so few
  int machine = 1;                      ///< CPUs of the machine
};
/// As they were when the program started. Beside other processes a program of its own wants
/// GOMP_SPINCOUNT=3000 in its environment (KMP_BLOCKTIME=1 with clang's OpenMP), as faq-train has:
/// docs/performance.md, "Threads".
const ThreadLimits& thread_limits();

/// Threads used by kernels (OpenMP's) that the calling thread runs; other threads keep theirs, as OpenMP has
/// it. 0 restores the default of thread_limits(), which the program's first thread has from the start.
void set_num_threads(int threads);
/// Of the calling thread. 1 inside a parallel_for, for oneDNN too: what is parallel already runs its kernels
/// alone.
int num_threads();

/// Calls body(begin, end) on disjoint ranges that cover [0, n), each (but the last) at least `grain` long.
/// When bodies throw, the exception of the first range is rethrown after all have ended.
void parallel_for(std::int64_t n, std::int64_t grain,
                  const std::function<void(std::int64_t, std::int64_t)>& body);

/// For images that each pass through several kernels: calls body(begin, end, share) once per thread, with
/// shares of [0, n) that differ by at most one, and what it calls runs alone; or once with everything, and
/// what it calls uses all threads, where n is so small that one image more would keep the others waiting.
void parallel_shares(std::int64_t n, const std::function<void(std::int64_t, std::int64_t, int)>& body);
/// How many shares that makes of n > 0.
int num_shares(std::int64_t n);

}  // namespace faq
