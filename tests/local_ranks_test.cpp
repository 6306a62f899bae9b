#include "train/ranks/local_ranks.h"

#include "core/error.h"
#include "core/parallel.h"
#include "tests/data_testing.h"

using namespace faq;
using namespace faq::testing;

namespace {

using Places = std::vector<RankPlace>;
using Texts = std::vector<std::string>;

std::vector<int> cpus(int first, int last) {
  std::vector<int> numbers;
  for (int cpu = first; cpu <= last; ++cpu) numbers.push_back(cpu);
  return numbers;
}

RankPlace place(const std::string& host, int first, int last, int machine = 16) {
  return {host, cpus(first, last), machine, 0, 0};
}
RankPlace with_quota(RankPlace place, int quota) {
  place.quota = quota;
  return place;
}
RankPlace asked(RankPlace place, int threads) {
  place.asked = threads;
  return place;
}

const char* const bound =
    " of 16 CPUs: start with mpirun --bind-to none (Open MPI), mpirun -bind-to none (MPICH), or srun "
    "--cpus-per-task";

}  // namespace

TEST_CASE("ranks share the CPUs of their host", "[ranks]") {
  const RankPlace all = place("n1", 0, 15);
  const struct {
    const char* what;
    Places places;
    std::vector<int> threads;
    std::string described;
    Texts warnings;
  } rows[] = {
      {"alone", {all}, {16}, "1 rank on 1 host, 16 threads each", {}},
      {"one a host", {all, place("n2", 0, 7, 8)}, {16, 8}, "2 ranks on 2 hosts, 8 to 16 threads each", {}},
      {"not bound", {all, all}, {8, 8}, "2 ranks on 1 host, 8 threads each", {}},
      {"not bound, with a remainder", {all, all, all}, {5, 5, 5}, "3 ranks on 1 host, 5 threads each", {}},
      {"bound to halves",
       {place("n1", 0, 7), place("n1", 8, 15)},
       {8, 8},
       "2 ranks on 1 host, 8 threads each",
       {}},
      {"two to a half each",
       {place("n1", 0, 7), place("n1", 0, 7), place("n1", 8, 15), place("n1", 8, 15)},
       {4, 4, 4, 4},
       "4 ranks on 1 host, 4 threads each",
       {}},
      {"two on each of two hosts",
       {all, all, place("n2", 0, 15), place("n2", 0, 15)},
       {8, 8, 8, 8},
       "4 ranks on 2 hosts, 8 threads each",
       {}},
      // 4 + 4 / 2 and 4 / 2 + 8.
      {"masks that overlap",
       {place("n1", 0, 7), place("n1", 4, 15)},
       {6, 10},
       "2 ranks on 1 host, 6 to 10 threads each",
       {}},
      // 3 · 1/3: no rank loses a thread to rounding.
      {"thirds",
       {place("n1", 0, 2, 3), place("n1", 0, 2, 3), place("n1", 0, 2, 3)},
       {1, 1, 1},
       "3 ranks on 1 host, 1 thread each",
       {}},
      {"more ranks than CPUs",
       {place("n1", 0, 1, 2), place("n1", 0, 1, 2), place("n1", 0, 1, 2)},
       {1, 1, 1},
       "3 ranks on 1 host, 1 thread each",
       {"3 ranks on 2 CPUs of n1: they wait for each other"}},
      {"a quota of the container",
       {with_quota(all, 6), with_quota(all, 6)},
       {3, 3},
       "2 ranks on 1 host, 3 threads each",
       {}},
      {"a quota that is too small",
       {with_quota(all, 1), with_quota(all, 1)},
       {1, 1},
       "2 ranks on 1 host, 1 thread each",
       {"2 ranks on 16 CPUs (CPU quota: 1) of n1: they wait for each other"}},
      {"a quota that does not matter",
       {with_quota(place("n1", 0, 7), 14), with_quota(place("n1", 0, 7), 14)},
       {4, 4},
       "2 ranks on 1 host, 4 threads each",
       {}},
      {"asked", {asked(all, 3), asked(all, 3)}, {3, 3}, "2 ranks on 1 host, 3 threads each", {}},
      {"asked of one", {asked(all, 12), all}, {12, 8}, "2 ranks on 1 host, 8 to 12 threads each", {}},
      {"Open MPI, two ranks",
       {place("n1", 0, 0), place("n1", 1, 1)},
       {1, 1},
       "2 ranks on 1 host, 1 thread each",
       {std::string("rank 0 (n1) may use 1") + bound}},
      {"… on cores of two threads",
       {place("n1", 0, 1), place("n1", 2, 3)},
       {2, 2},
       "2 ranks on 1 host, 2 threads each",
       {std::string("rank 0 (n1) may use 2") + bound}},
      {"… on the second host alone",
       {all, place("n2", 5, 5)},
       {16, 1},
       "2 ranks on 2 hosts, 1 to 16 threads each",
       {std::string("rank 1 (n2) may use 1") + bound}},
      {"… as asked",
       {asked(place("n1", 0, 0), 1), asked(place("n1", 1, 1), 1)},
       {1, 1},
       "2 ranks on 1 host, 1 thread each",
       {}},
      {"… and more threads asked for",
       {asked(place("n1", 0, 0), 8), place("n2", 0, 15)},
       {8, 16},
       "2 ranks on 2 hosts, 8 to 16 threads each",
       {std::string("rank 0 (n1) may use 1") + bound}},
      {"one CPU a rank, and all CPUs used",
       {place("n1", 0, 0, 2), place("n1", 1, 1, 2)},
       {1, 1},
       "2 ranks on 1 host, 1 thread each",
       {}},
  };
  for (const auto& row : rows) {
    INFO(row.what);
    CHECK(threads_of_ranks(row.places) == row.threads);
    CHECK(describe(row.places) == row.described);
    CHECK(warnings_of_ranks(row.places) == row.warnings);
  }
}

TEST_CASE("ranks of the same host find each other", "[ranks]") {
  const Places places{place("n1", 0, 1), place("n2", 0, 1), place("n1", 0, 1), place("n10", 0, 1)};
  CHECK(ranks_on_host_of(0, places) == std::vector<int>{0, 2});
  CHECK(ranks_on_host_of(1, places) == std::vector<int>{1});
  CHECK(ranks_on_host_of(2, places) == std::vector<int>{0, 2});
  CHECK(ranks_on_host_of(3, places) == std::vector<int>{3});
}

TEST_CASE("the place of a rank travels as a line of text", "[ranks]") {
  const struct {
    RankPlace place;
    std::string text;
  } rows[] = {
      {place("n1", 0, 15), "n1 16 0 0 0-15"},
      {{"node-7.cluster", {3}, 4, 0, 0}, "node-7.cluster 4 0 0 3"},
      {{"n1", {0, 1, 2, 5, 8, 9, 1023, 65535}, 65536, 3, 12}, "n1 65536 3 12 0-2,5,8-9,1023,65535"},
  };
  for (const auto& row : rows) {
    CHECK(to_text(row.place) == row.text);
    CHECK(rank_place(row.text) == row.place);
  }
  for (const char* text :
       {"", "n1", "n1 16 0 0", "n1 16 0 0 0-15 7", "n1 0 0 0 0", "n1 16 -1 0 0", "n1 16 0 -1 0",
        "n1 16 0 0 a", "n1 16 0 0 0-", "n1 16 0 0 3-1", "n1 16 0 0 0,,1", "n1 16 0 0 1,0", "n1 16 0 0 -1",
        "n1 16 0 0 0-65536", "n1 16 0 0 0;1", "n1 16 0 0 0,", "n1 x 0 0 0"}) {
    check_error(ErrorKind::io, "found '" + std::string(text) + "'", [&] { rank_place(text); });
  }
}

TEST_CASE("this process has a place", "[ranks]") {
  const RankPlace here = place_of_process(0);
  const ThreadLimits& limits = thread_limits();
  CHECK_FALSE(here.host.empty());
  CHECK(here.machine == limits.machine);
  CHECK(rank_place(to_text(here)) == here);
  CHECK(threads_of_ranks({here}).front() == limits.threads);  // alone, a rank has what a single process has
  CHECK(place_of_process(5).asked == 5);
  CHECK(threads_of_ranks({place_of_process(5)}).front() == 5);
}
