// Text for people about the number of threads of a run and the reason for it.
#pragma once

#include <string>
#include <vector>

#include "core/parallel.h"

namespace faq {

/// Returns the first lines of a run, e.g. "2 threads (CPU quota of the container; the machine has 64)". A
/// second line warns if there are more threads than CPUs for them. `asked`: RunChoice::threads.
std::vector<std::string> threads_text(int asked, const ThreadLimits& limits = thread_limits());

}  // namespace faq
