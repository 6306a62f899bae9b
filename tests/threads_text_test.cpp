#include "train/threads_text.h"

#include "tests/testing.h"

using namespace faq;
using namespace faq::testing;

TEST_CASE("a run says how many threads it has, and why", "[threads]") {
  using Source = ThreadLimits::Source;
  const ThreadLimits whole{2, Source::machine, 2, Source::machine, 2},
      alone{1, Source::machine, 1, Source::machine, 1}, quota{2, Source::quota, 2, Source::quota, 64},
      mask{8, Source::affinity, 8, Source::affinity, 64}, told{3, Source::environment, 1, Source::quota, 64};
  struct Row {
    int asked;
    ThreadLimits limits;
    Words lines;
  };
  const Row rows[] = {
      {0, whole, {"2 threads (all CPUs of the machine)"}},
      {0, alone, {"1 thread (all CPUs of the machine)"}},
      {1, whole, {"1 thread (as asked; the machine has 2)"}},
      {0, quota, {"2 threads (CPU quota of the container; the machine has 64)"}},
      {0, mask, {"8 threads (CPUs this process may run on; the machine has 64)"}},
      {8,
       quota,
       {"8 threads (as asked; the machine has 64)",
        "warning: 8 threads on 2 CPUs (CPU quota of the container): they wait for each other"}},
      {9,
       mask,
       {"9 threads (as asked; the machine has 64)",
        "warning: 9 threads on 8 CPUs (CPUs this process may run on): they wait for each other"}},
      {0,
       told,
       {"3 threads (OMP_NUM_THREADS; the machine has 64)",
        "warning: 3 threads on 1 CPU (CPU quota of the container): they wait for each other"}},
      {3,
       whole,
       {"3 threads (as asked; the machine has 2)",
        "warning: 3 threads on 2 CPUs (all CPUs of the machine): they wait for each other"}},
  };
  for (const Row& row : rows) {
    INFO(row.lines.front());
    CHECK(threads_text(row.asked, row.asked > 0 ? row.asked : row.limits.threads, row.limits) == row.lines);
  }
}

TEST_CASE("a run says that it has fewer threads than asked for", "[threads]") {
  const ThreadLimits whole{4, ThreadLimits::Source::machine, 4, ThreadLimits::Source::machine, 4};
  struct Row {
    int asked, granted;
    const char* line;
  };
  const Row rows[] = {{4, 1, "warning: 1 thread instead of 4: OpenMP grants no more"},
                      {0, 3, "warning: 3 threads instead of 4: OpenMP grants no more"},
                      {2, 2, "2 threads (as asked"},
                      {0, 4, "4 threads (all CPUs"}};
  for (const Row& row : rows) {
    INFO(row.line);
    const auto lines = threads_text(row.asked, row.granted, whole);
    REQUIRE(lines.size() == 1);
    CHECK(lines.front().starts_with(row.line));
  }
}

TEST_CASE("the default of threads is what the process has", "[threads]") {
  const ThreadLimits& limits = thread_limits();
  CHECK(limits.threads >= 1);
  CHECK(limits.available >= 1);
  CHECK(limits.available <= limits.machine);
  set_num_threads(limits.threads + 1);
  CHECK(num_threads() == limits.threads + 1);
  set_num_threads(0);
  CHECK(num_threads() == limits.threads);
}
