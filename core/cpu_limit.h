// The limit of CPU time that control groups set for this process, e.g. those of its container.
#pragma once

#include <filesystem>
#include <optional>

namespace faq {

/// Returns the tightest CPU quota, in CPUs, e.g. 1.5. It looks at the control group of the process and at all
/// visible groups around it, in cgroup v1 and v2. Returns nothing when no group has a quota. `root`: the
/// folder under which /proc and the mounted cgroups are found.
std::optional<double> cpu_quota(const std::filesystem::path& root = "/");

/// Returns the number of threads for a quota: the nearest integer, at least 1. Why not rounded up: all
/// threads of a team wait for each other, and when the group's quota is used up, none of them runs until the
/// next period. Two threads on 1.1 CPUs would stand still for almost half of the time.
int threads_for_quota(double cpus);

}  // namespace faq
