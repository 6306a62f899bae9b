// Text for people about the number of threads of a run and the reason for it.
#pragma once

#include <string>
#include <vector>

#include "core/parallel.h"

namespace faq {

/// Returns the first lines of a run, e.g. "2 threads (CPU quota of the container; the machine has 64)". A
/// second line warns if there are more threads than CPUs for them. `asked`: RunChoice::threads. `granted`:
/// num_threads() after that.
std::vector<std::string> threads_text(int asked, int granted, const ThreadLimits& limits = thread_limits());

/// Returns a warning if OpenMP grants fewer threads than were wanted; empty if not.
std::string fewer_threads_text(int wanted, int granted);

}  // namespace faq
