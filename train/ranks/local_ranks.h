// Which ranks share a machine, and how they share its CPUs.
#pragma once

#include <string>
#include <vector>

namespace faq {

/// The name of this machine.
std::string host_name();

/// Where a rank runs, and what it may use there.
struct RankPlace {
  std::string host = {};
  std::vector<int> cpus = {};  ///< numbers of the CPUs it may run on, ascending; not empty
  int machine = 1;             ///< CPUs of the host
  int quota = 0;               ///< threads for the CPU quota of its container; 0: none, or not below its CPUs
  int asked = 0;               ///< threads asked for, by --threads or OMP_NUM_THREADS; 0: none
  bool operator==(const RankPlace&) const = default;
};

/// Of this process. `asked`: RunChoice::threads; 0: what OMP_NUM_THREADS says. To be called in the
/// first thread.
RankPlace place_of_process(int asked);

/// One line, which rank_place reads again: "n1 16 0 0 0-3,8".
std::string to_text(const RankPlace& place);
/// Throws io if it is no such line: it comes from another process.
RankPlace rank_place(const std::string& text);

/// The ranks on the host of this rank, itself included, ascending.
std::vector<int> ranks_on_host_of(int rank, const std::vector<RankPlace>& places);

/// The number of threads of each rank: as many as asked for, or else its share of its CPUs. Ranks of a host
/// that may use a CPU have equal parts of it, and of a quota. A rank has at least one thread.
std::vector<int> threads_of_ranks(const std::vector<RankPlace>& places);

/// For people, one line each, without "warning: ": ranks that are bound to few of many CPUs, and ranks that
/// share one.
std::vector<std::string> warnings_of_ranks(const std::vector<RankPlace>& places);

/// For the first line of a run: "8 ranks on 2 hosts, 4 threads each".
std::string describe(const std::vector<RankPlace>& places);

}  // namespace faq
