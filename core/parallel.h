// Data parallelism on the OpenMP threads that oneDNN uses too: one pool, no oversubscription.
#pragma once

#include <cstdint>
#include <functional>

namespace faq {

/// The default number of threads, and the reason for it.
struct ThreadLimits {
  enum class Source {
    environment,  ///< OMP_NUM_THREADS, or another of OpenMP's variables
    quota,        ///< a quota of CPU time, in a container's control groups (core/cpu_limit.h)
    affinity,     ///< the CPUs this process may run on
    machine,      ///< all CPUs of the machine
  };
  int threads = 1;  ///< the default
  Source source = Source::machine;
  int available = 1;                    ///< CPUs for this process, after its quota and its affinity
  Source limited_by = Source::machine;  ///< what limits `available`
  int machine = 1;                      ///< CPUs of the machine
};
/// The limits when the program started. A program that runs beside other processes should set
/// GOMP_SPINCOUNT=3000 in its environment (KMP_BLOCKTIME=1 with clang's OpenMP), as faq-train does:
/// docs/performance.md, "Threads".
const ThreadLimits& thread_limits();

/// More threads than that are a mistake of whoever asks for them.
inline constexpr int most_threads = 4096;

/// Sets the number of OpenMP threads for kernels that the calling thread runs. Other threads keep theirs, as
/// always in OpenMP. 0 restores the default of thread_limits(). The first thread of the program starts with
/// that default.
void set_num_threads(int threads);
/// The number of threads that OpenMP grants the calling thread, at most those that were set: a limit such as
/// OMP_THREAD_LIMIT may allow fewer. It is 1 inside a parallel region, also for oneDNN: parallel code runs
/// its kernels single-threaded. Throws out_of_memory if the system cannot start the threads.
int num_threads();

/// Calls body(begin, end) on disjoint ranges that cover [0, n). Each range but the last is at least `grain`
/// long. When bodies throw, the exception of the first range is rethrown after all bodies have ended.
void parallel_for(std::int64_t n, std::int64_t grain,
                  const std::function<void(std::int64_t, std::int64_t)>& body);

/// For images that each pass through several kernels. Calls body(begin, end, share) once per thread. The
/// shares of [0, n) differ in size by at most one, and the kernels called by `body` run on one thread.
/// Exception: where n is so small that a share with one more image would keep the other threads waiting, body
/// is called once with all of [0, n), and its kernels use all threads.
void parallel_shares(std::int64_t n, const std::function<void(std::int64_t, std::int64_t, int)>& body);
/// The number of shares that parallel_shares makes of n > 0.
int num_shares(std::int64_t n);

}  // namespace faq
