#include "core/cpu_limit.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "core/text.h"

namespace faq {
namespace {

namespace fs = std::filesystem;

// A mounted cgroup file system. `group` is seen at `folder`; groups above it are not visible.
struct Mount {
  bool v2;
  std::string group;
  fs::path folder;
};

bool has_cpu(const std::string& controllers) {
  const std::vector<std::string> names = split(controllers);
  return std::ranges::find(names, "cpu") != names.end();
}

// Lines of proc_pid_mountinfo(5): ID PARENT DEVICE ROOT FOLDER OPTIONS [FIELDS...] - TYPE SOURCE
// SUPER_OPTIONS
std::vector<Mount> cgroup_mounts(const fs::path& root) {
  std::vector<Mount> mounts;
  std::ifstream in(root / "proc/self/mountinfo");
  for (std::string line; std::getline(in, line);) {
    std::istringstream words(line);
    std::string word, group, folder, type, controllers;
    words >> word >> word >> word >> group >> folder;
    while (words >> word && word != "-") {
    }
    words >> type >> word >> controllers;
    const bool v2 = type == "cgroup2";
    if (v2 || (type == "cgroup" && has_cpu(controllers)))
      mounts.push_back({v2, group, root / fs::path(folder).relative_path()});
  }
  return mounts;
}

// The process's group, in the hierarchy of v2 or in that of v1's cpu controller. A line is
// ID:CONTROLLERS:GROUP, for v2 it is 0::GROUP.
std::optional<std::string> group_of_process(const fs::path& root, bool v2) {
  std::ifstream in(root / "proc/self/cgroup");
  for (std::string line; std::getline(in, line);) {
    const std::size_t first = line.find(':');
    const std::size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    if (v2 ? controllers.empty() : has_cpu(controllers)) return line.substr(second + 1);
  }
  return std::nullopt;
}

// The folders of a group below the mount, innermost first. In a container the mount may show the container's
// own group, while the name of the process's group is the host's, or points elsewhere (/../..). Then only the
// folder of the mount is used.
std::vector<fs::path> folders_of(const Mount& mount, const std::string& group) {
  std::string below;
  if (mount.group == "/")
    below = group;
  else if (group.starts_with(mount.group + "/"))
    below = group.substr(mount.group.size());
  std::vector<fs::path> folders{mount.folder};
  for (const fs::path& part : fs::path(below).relative_path()) {
    if (part == "..") return {mount.folder};
    if (!part.empty()) folders.push_back(folders.back() / part);
  }
  std::ranges::reverse(folders);
  return folders;
}

// Returns microseconds. Returns nothing for "max", for -1 (v1's "max"), and if there is no such file.
std::optional<double> microseconds(std::istream& in) {
  double value = 0;
  if (in >> value && value > 0) return value;
  return std::nullopt;
}

std::optional<double> quota_in(const fs::path& folder, bool v2) {
  std::ifstream quota_file(folder / (v2 ? "cpu.max" : "cpu.cfs_quota_us"));
  const auto quota = microseconds(quota_file);
  std::ifstream period_file;
  if (!v2) period_file.open(folder / "cpu.cfs_period_us");
  const auto period = microseconds(v2 ? quota_file : period_file);
  if (!quota || !period) return std::nullopt;
  return *quota / *period;
}

}  // namespace

std::optional<double> cpu_quota(const fs::path& root) {
  std::optional<double> tightest;
  for (const Mount& mount : cgroup_mounts(root)) {
    const auto group = group_of_process(root, mount.v2);
    if (!group) continue;
    for (const fs::path& folder : folders_of(mount, *group)) {
      const auto quota = quota_in(folder, mount.v2);
      if (quota && (!tightest || *quota < *tightest)) tightest = quota;
    }
  }
  return tightest;
}

int threads_for_quota(double cpus) {
  // Limited to 1e6, because a quota may be any number.
  return static_cast<int>(std::clamp(std::floor(cpus + 0.5), 1.0, 1e6));
}

}  // namespace faq
