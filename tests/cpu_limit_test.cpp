#include "core/cpu_limit.h"

#include "tests/data_testing.h"

using namespace faq;
using namespace faq::testing;

namespace {

struct Tree {
  const char* what;
  std::vector<std::pair<const char*, const char*>> files;  ///< of proc and of the mounted cgroups
  std::optional<double> cpus;
};

constexpr const char* v2_mount = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw\n";
constexpr const char* v1_mounts =
    "24 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
    "33 32 0:29 / /sys/fs/cgroup/cpuset rw shared:1 master:2 - cgroup cgroup rw,cpuset\n"
    "34 32 0:30 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n";

}  // namespace

TEST_CASE("a quota of CPU time is the tightest on the way to the process's group", "[cpu_limit]") {
  const Tree trees[] = {
      {"nothing is mounted", {}, {}},
      {"v2, no quota",
       {{"proc/self/mountinfo", v2_mount},
        {"proc/self/cgroup", "0::/job\n"},
        {"sys/fs/cgroup/job/cpu.max", "max 100000\n"}},
       {}},
      {"v2, the group's own",
       {{"proc/self/mountinfo", v2_mount},
        {"proc/self/cgroup", "0::/job\n"},
        {"sys/fs/cgroup/job/cpu.max", "150000 100000\n"}},
       1.5},
      {"v2, a group around it is tighter",
       {{"proc/self/mountinfo", v2_mount},
        {"proc/self/cgroup", "0::/slice/job/step\n"},
        {"sys/fs/cgroup/slice/cpu.max", "200000 100000\n"},
        {"sys/fs/cgroup/slice/job/cpu.max", "max 100000\n"},
        {"sys/fs/cgroup/slice/job/step/cpu.max", "400000 50000\n"}},
       2.0},
      {"v2, other groups do not count",
       {{"proc/self/mountinfo", v2_mount},
        {"proc/self/cgroup", "0::/job\n"},
        {"sys/fs/cgroup/job/step/cpu.max", "100000 100000\n"},
        {"sys/fs/cgroup/other/cpu.max", "100000 100000\n"},
        {"sys/fs/cgroup/job/cpu.max", "300000 100000\n"}},
       3.0},
      {"v2, the container's group is the mount",
       {{"proc/self/mountinfo", v2_mount},
        {"proc/self/cgroup", "0::/\n"},
        {"sys/fs/cgroup/cpu.max", "50000 100000\n"}},
       0.5},
      {"v2, named as the host sees it, mounted from there",
       {{"proc/self/mountinfo", "30 23 0:26 /docker/c1 /sys/fs/cgroup ro - cgroup2 cgroup rw\n"},
        {"proc/self/cgroup", "0::/docker/c1/inner\n"},
        {"sys/fs/cgroup/cpu.max", "400000 100000\n"},
        {"sys/fs/cgroup/inner/cpu.max", "100000 100000\n"}},
       1.0},
      {"v2, named from outside its namespace",
       {{"proc/self/mountinfo", v2_mount},
        {"proc/self/cgroup", "0::/../../other\n"},
        {"sys/fs/cgroup/cpu.max", "200000 100000\n"}},
       2.0},
      {"v2, a group that merely begins with the same letters",
       {{"proc/self/mountinfo", "30 23 0:26 /docker/c1 /sys/fs/cgroup ro - cgroup2 cgroup rw\n"},
        {"proc/self/cgroup", "0::/docker/c12/inner\n"},
        {"sys/fs/cgroup/2/inner/cpu.max", "100000 100000\n"}},
       {}},
      {"v1, no quota",
       {{"proc/self/mountinfo", v1_mounts},
        {"proc/self/cgroup", "4:cpuset:/job\n3:cpu,cpuacct:/job\n"},
        {"sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us", "-1\n"},
        {"sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_period_us", "100000\n"}},
       {}},
      {"v1, a group around it is tighter, cpuset's group is another",
       {{"proc/self/mountinfo", v1_mounts},
        {"proc/self/cgroup", "4:cpuset:/elsewhere\n3:cpu,cpuacct:/job/step\n"},
        {"sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us", "250000\n"},
        {"sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_period_us", "100000\n"},
        {"sys/fs/cgroup/cpu,cpuacct/job/step/cpu.cfs_quota_us", "800000\n"},
        {"sys/fs/cgroup/cpu,cpuacct/job/step/cpu.cfs_period_us", "200000\n"}},
       2.5},
      {"v1, the container's group is the mount",
       {{"proc/self/mountinfo", "34 32 0:30 /docker/c1 /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu\n"},
        {"proc/self/cgroup", "3:cpu:/docker/c1\n0::/docker/c1\n"},
        {"sys/fs/cgroup/cpu/cpu.cfs_quota_us", "300000\n"},
        {"sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"}},
       3.0},
      {"v1 and v2 side by side: the cpu controller is in one of them",
       {{"proc/self/mountinfo",
         "34 32 0:30 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
         "42 32 0:31 / /sys/fs/cgroup/unified rw - cgroup2 cgroup rw\n"},
        {"proc/self/cgroup", "3:cpu:/job\n0::/job\n"},
        {"sys/fs/cgroup/cpu/job/cpu.cfs_quota_us", "400000\n"},
        {"sys/fs/cgroup/cpu/job/cpu.cfs_period_us", "100000\n"},
        {"sys/fs/cgroup/unified/job/cgroup.procs", "1\n"}},
       4.0},
      {"lines that say nothing",
       {{"proc/self/mountinfo", "\n1\n30 23 0:26 / /sys/fs/cgroup rw - cgroup2\n"},
        {"proc/self/cgroup", "\n0\n0:\n0::/job\n"},
        {"sys/fs/cgroup/job/cpu.max", "many 100000\n"},
        {"sys/fs/cgroup/cpu.max", "100000\n"}},
       {}},
  };
  for (const Tree& tree : trees) {
    INFO(tree.what);
    const TemporaryFolder folder;
    for (const auto& [name, text] : tree.files) write_file(folder / name, text);
    const std::optional<double> cpus = cpu_quota(folder.path());
    REQUIRE(cpus.has_value() == tree.cpus.has_value());
    if (cpus) CHECK(*cpus == *tree.cpus);
  }
}

TEST_CASE("threads for a quota", "[cpu_limit]") {
  const std::pair<double, int> rows[] = {{0.1, 1},  {0.5, 1}, {1, 1},   {1.1, 1}, {1.5, 2},
                                         {1.99, 2}, {2, 2},   {2.4, 2}, {64, 64}, {1e30, 1'000'000}};
  for (const auto& [cpus, threads] : rows) {
    INFO(cpus);
    CHECK(threads_for_quota(cpus) == threads);
  }
}
