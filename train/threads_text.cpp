#include "train/threads_text.h"

#include <fmt/format.h>

#include <utility>

namespace faq {
namespace {

const char* text_of(ThreadLimits::Source source) {
  switch (source) {
    case ThreadLimits::Source::environment:
      return "OMP_NUM_THREADS";
    case ThreadLimits::Source::quota:
      return "CPU quota of the container";
    case ThreadLimits::Source::affinity:
      return "CPUs this process may run on";
    case ThreadLimits::Source::machine:
      break;
  }
  return "all CPUs of the machine";
}

}  // namespace

std::string fewer_threads_text(int wanted, int granted) {
  if (granted >= wanted) return {};
  return fmt::format(
      "warning: {} thread{} instead of {}: OpenMP grants no more (OMP_THREAD_LIMIT, or a limit like it)",
      granted, granted == 1 ? "" : "s", wanted);
}

std::vector<std::string> threads_text(int asked, int granted, const ThreadLimits& limits) {
  const int threads = asked > 0 ? asked : limits.threads;
  if (std::string fewer = fewer_threads_text(threads, granted); !fewer.empty()) return {std::move(fewer)};
  const bool all = asked == 0 && limits.source == ThreadLimits::Source::machine;
  std::vector<std::string> lines{fmt::format("{} thread{} ({}{})", threads, threads == 1 ? "" : "s",
                                             asked > 0 ? "as asked" : text_of(limits.source),
                                             all ? "" : fmt::format("; the machine has {}", limits.machine))};
  if (threads > limits.available)
    lines.push_back(fmt::format("warning: {} threads on {} CPU{} ({}): they wait for each other", threads,
                                limits.available, limits.available == 1 ? "" : "s",
                                text_of(limits.limited_by)));
  return lines;
}

}  // namespace faq
