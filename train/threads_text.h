// How many threads a run has, and why, for people.
#pragma once

#include <string>
#include <vector>

#include "core/parallel.h"

namespace faq {

/// The lines a run begins with, e.g. "2 threads (CPU quota of the container; the machine has 64)"; another
/// one warns of more threads than there are CPUs for them. `asked`: RunChoice::threads.
std::vector<std::string> threads_text(int asked, const ThreadLimits& limits = thread_limits());

}  // namespace faq
