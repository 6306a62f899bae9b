#include "train/ranks/local_ranks.h"

#include <omp.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <set>
#include <sstream>

#include "core/error.h"
#include "core/parallel.h"

namespace faq {
namespace {

// The kernel refuses a mask that is shorter than its own, so it may be long. With OMP_PROC_BIND OpenMP has
// bound the thread before main, and knows in its places what the process may use.
std::vector<int> cpus_of_process() {
  constexpr int most = 1 << 16;
  cpu_set_t* mask = CPU_ALLOC(most);
  const std::size_t size = CPU_ALLOC_SIZE(most);
  std::vector<int> cpus;
  if (mask != nullptr && ::sched_getaffinity(0, size, mask) == 0) {
    for (int cpu = 0; cpu < most; ++cpu)
      if (CPU_ISSET_S(cpu, size, mask)) cpus.push_back(cpu);
  }
  CPU_FREE(mask);
  for (int place = 0; place < omp_get_num_places(); ++place) {
    std::vector<int> of_place(static_cast<std::size_t>(omp_get_place_num_procs(place)));
    omp_get_place_proc_ids(place, of_place.data());
    cpus.insert(cpus.end(), of_place.begin(), of_place.end());
  }
  std::ranges::sort(cpus);
  cpus.erase(std::unique(cpus.begin(), cpus.end()), cpus.end());
  return cpus;
}

// Numbers and ranges of numbers, as Linux writes them: "0-3,8".
std::string to_ranges(const std::vector<int>& cpus) {
  std::string text;
  for (std::size_t i = 0; i < cpus.size();) {
    std::size_t last = i;
    while (last + 1 < cpus.size() && cpus[last + 1] == cpus[last] + 1) ++last;
    text += concat(text.empty() ? "" : ",", cpus[i]);
    if (last > i) text += concat("-", cpus[last]);
    i = last + 1;
  }
  return text;
}

// Empty if the text is something else.
std::vector<int> from_ranges(const std::string& text) {
  std::vector<int> cpus;
  std::istringstream in(text);
  in.imbue(std::locale::classic());
  char separator = ',';
  do {
    int first = 0, last = 0;
    if (separator != ',' || !(in >> first)) return {};
    last = first;
    if (in.peek() == '-' && !(in.ignore() >> last)) return {};
    if (first < (cpus.empty() ? 0 : cpus.back() + 1) || last < first || last >= 1 << 16) return {};
    for (int cpu = first; cpu <= last; ++cpu) cpus.push_back(cpu);
  } while (in >> separator);
  return cpus;
}

// What a rank has of its host's CPUs when all ranks that may use a CPU have equal parts of it.
double share_of(int rank, const std::vector<RankPlace>& places) {
  const std::vector<int> ranks = ranks_on_host_of(rank, places);
  double share = 0;
  for (const int cpu : places.at(rank).cpus)
    share += 1.0 / static_cast<double>(std::ranges::count_if(ranks, [&](int other) {
               return std::ranges::binary_search(places[other].cpus, cpu);
             }));
  if (places[rank].quota > 0)
    share = std::min(share, static_cast<double>(places[rank].quota) / static_cast<double>(ranks.size()));
  return share;
}

std::string counted(std::size_t number, const char* what) {
  return concat(number, " ", what, number == 1 ? "" : "s");
}

}  // namespace

std::string host_name() {
  std::array<char, 256> name{};
  if (::gethostname(name.data(), name.size() - 1) != 0 || name[0] == '\0') return "unknown";
  return name.data();
}

RankPlace place_of_process(int asked) {
  const ThreadLimits& limits = thread_limits();
  RankPlace place{host_name(), cpus_of_process(), limits.machine, 0, asked};
  check(!place.cpus.empty(), ErrorKind::io, "place_of_process: the CPUs of this process cannot be read");
  if (limits.limited_by == ThreadLimits::Source::quota) place.quota = limits.available;
  if (asked == 0 && limits.source == ThreadLimits::Source::environment) place.asked = limits.threads;
  return place;
}

std::string to_text(const RankPlace& place) {
  return concat(place.host, " ", place.machine, " ", place.quota, " ", place.asked, " ",
                to_ranges(place.cpus));
}

RankPlace rank_place(const std::string& text) {
  RankPlace place;
  std::istringstream in(text);
  in.imbue(std::locale::classic());
  std::string ranges, more;
  const bool whole =
      (in >> place.host >> place.machine >> place.quota >> place.asked >> ranges) && !(in >> more);
  place.cpus = from_ranges(ranges);
  check(whole && !place.cpus.empty() && place.machine > 0 && place.quota >= 0 && place.asked >= 0,
        ErrorKind::io, "rank_place: expected HOST MACHINE QUOTA ASKED CPUS, found '", text, "'");
  return place;
}

std::vector<int> ranks_on_host_of(int rank, const std::vector<RankPlace>& places) {
  std::vector<int> ranks;
  for (std::size_t other = 0; other < places.size(); ++other)
    if (places[other].host == places.at(rank).host) ranks.push_back(static_cast<int>(other));
  return ranks;
}

std::vector<int> threads_of_ranks(const std::vector<RankPlace>& places) {
  std::vector<int> threads;
  for (std::size_t rank = 0; rank < places.size(); ++rank) {
    // A sum of fractions that should be an integer may be just below it.
    const int share = static_cast<int>(share_of(static_cast<int>(rank), places) + 1e-6);
    threads.push_back(places[rank].asked > 0 ? places[rank].asked : std::max(share, 1));
  }
  return threads;
}

std::vector<std::string> warnings_of_ranks(const std::vector<RankPlace>& places) {
  std::vector<std::string> warnings;
  std::set<std::string> bound, crowded;  // one warning for a host is enough
  for (std::size_t i = 0; i < places.size(); ++i) {
    const RankPlace& place = places[i];
    const int rank = static_cast<int>(i);
    const std::vector<int> local = ranks_on_host_of(rank, places);
    std::set<int> used;
    for (const int other : local) used.insert(places[other].cpus.begin(), places[other].cpus.end());
    // One core, which may be two CPUs, while half of the machine is used by no rank.
    const bool is_bound =
        place.cpus.size() <= 2 && 2 * used.size() <= static_cast<std::size_t>(place.machine);
    const bool is_chosen = place.asked > 0 && static_cast<std::size_t>(place.asked) <= place.cpus.size();
    if (is_bound && !is_chosen && bound.insert(place.host).second)
      warnings.push_back(
          concat("rank ", rank, " (", place.host, ") may use ", place.cpus.size(), " of ", place.machine,
                 " CPUs: start with mpirun --bind-to none (Open MPI), mpirun -bind-to none (MPICH), or "
                 "srun --cpus-per-task"));
    const double share = share_of(rank, places);
    if (share < 1 - 1e-6 && crowded.insert(place.host).second)
      warnings.push_back(concat(counted(local.size(), "rank"), " on ", counted(used.size(), "CPU"),
                                place.quota > 0 ? concat(" (CPU quota: ", place.quota, ")") : "", " of ",
                                place.host, ": they wait for each other"));
  }
  return warnings;
}

std::string describe(const std::vector<RankPlace>& places) {
  std::set<std::string> hosts;
  for (const RankPlace& place : places) hosts.insert(place.host);
  const std::vector<int> threads = threads_of_ranks(places);
  const auto [least, most] = std::ranges::minmax(threads);
  return concat(counted(places.size(), "rank"), " on ", counted(hosts.size(), "host"), ", ",
                least == most ? counted(most, "thread") : concat(least, " to ", most, " threads"), " each");
}

}  // namespace faq
