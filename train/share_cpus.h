// The threads of a run: of a process alone, or of each of its ranks.
#pragma once

#include <string>
#include <vector>

#include "train/ranks/communicator.h"

namespace faq {

struct CpuShare {
  std::vector<std::string> lines = {};  ///< for people: the ranks, the threads, and warnings
};

/// Sets the number of OpenMP threads of the calling thread: `asked` ones (RunChoice::threads), or with 0 the
/// default of thread_limits(), which ranks of one host that may run on the same CPUs share. All ranks call
/// it.
CpuShare share_cpus(Communicator& ranks, int asked);

}  // namespace faq
