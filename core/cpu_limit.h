// The CPU time that the control groups of this process allow it, e.g. those of its container.
#pragma once

#include <filesystem>
#include <optional>

namespace faq {

/// In CPUs, e.g. 1.5: the tightest quota of the process's own control group and of all groups around it that
/// can be seen, of cgroup v1 and v2. Nothing when none of them has one. `root` is where /proc and the mounted
/// cgroups are looked for.
std::optional<double> cpu_quota(const std::filesystem::path& root = "/");

/// The number of threads for a quota. Rounded to the nearest, at least 1: all threads of a team wait for each
/// other, and when the group has used its quota up none of them runs until the next period. With the number
/// rounded up, two threads on 1.1 CPUs would stand still for almost half of the time.
int threads_for_quota(double cpus);

}  // namespace faq
