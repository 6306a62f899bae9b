#include "tools/eval_task.h"

#include <algorithm>
#include <span>

namespace faq {
namespace {

constexpr const char* evaluation = "an evaluation";
// What can be asked for instead of it, one at a time; --analyze, too, of several kinds.
constexpr const char* modes[] = {"per-class", "confusion", "compare", "predict", "export", "logits"};

// Images are one question, however many they are.
std::size_t times_asked(const cxxopts::ParseResult& parsed, const std::string& mode) {
  if (mode == "per-class" || mode == "confusion") return cli::is_on(parsed, mode) ? 1 : 0;
  return mode == "predict" ? std::min<std::size_t>(parsed.count(mode), 1) : parsed.count(mode);
}

std::span<const EvalTask> tasks() {
  // What says where a data set is, and how it is read.
  static const std::vector<std::string> of_images{"split",       "data-path",  "dataset",
                                                  "class-order", "batch-size", "allow-empty-classes",
                                                  "val-labels",  "workers",    "skip-bad"};
  const auto and_also = [](std::vector<std::string> names, const std::vector<std::string>& more) {
    names.insert(names.end(), more.begin(), more.end());
    return names;
  };
  static const EvalTask all[] = {
      {.name = evaluation, .own = {"class-names"}, .is_shared = true, .names_are_matched = true},
      {.name = "--per-class", .own = {"class-names"}, .is_shared = true},
      {"--confusion", {"class-names"}},
      {.name = "--logits", .own = {"class-names"}, .names_are_matched = true},
      {"--compare"},
      {"--predict", {"class-names"}, of_images},
      {"--export", {}, and_also(of_images, {"engine"})},
      {"--analyze cosine",
       {"output-dir", "baseline"},
       and_also(of_images, {"val-resize-size", "val-crop-size", "interpolation", "mean", "std", "num-classes",
                            "in-channels", "engine", "use-ema", "ignore-extra"})},
      {"--analyze gradient-noise",
       {"output-dir", "batches", "batch-sizes", "widths", "grad-dtypes"},
       {"split", "batch-size", "val-resize-size", "val-crop-size", "interpolation", "use-ema"}},
      {"--analyze sensitivity", {"output-dir", "config"}, {"split", "use-ema"}},
      {"--analyze bits", {"output-dir", "config"}, {"split", "use-ema"}},
      {"--analyze weight-scales", {"output-dir"}},
  };
  return all;
}

bool among(const std::vector<std::string>& names, const std::string& name) {
  return std::ranges::find(names, name) != names.end();
}

const EvalTask& task_of(const cxxopts::ParseResult& parsed) {
  std::string name = evaluation;
  for (const std::string mode : modes)
    if (times_asked(parsed, mode) > 0) name = "--" + mode;
  if (parsed.count("analyze")) name = "--analyze " + cli::text_of(parsed, "analyze");
  const auto found = std::ranges::find(tasks(), name, &EvalTask::name);
  check(found != tasks().end(), ErrorKind::usage, name,
        ": expected one of cosine, gradient-noise, sensitivity, bits, weight-scales");
  return *found;
}

void refuse_without_effect(const cxxopts::ParseResult& parsed, const EvalTask& task,
                           const std::vector<OptionRow>& rows) {
  const auto is_own_of_some = [](const std::string& name) {
    return std::ranges::any_of(tasks(), [&](const EvalTask& other) { return among(other.own, name); });
  };
  for (const std::string& name : cli::given_names(parsed, rows))
    check(!among(task.ignored, name) && (among(task.own, name) || !is_own_of_some(name)), ErrorKind::usage,
          "--", name, " has no effect on ", task.name);
  check(
      !task.names_are_matched || parsed.count("class-names") == 0 || parsed.count("allow-empty-classes") > 0,
      ErrorKind::usage, "--class-names has no effect on ", task.name, " without --allow-empty-classes");
  const std::string split = cli::text_of(parsed, "split");
  check(parsed.count("val-labels") == 0 || split == "val", ErrorKind::usage,
        "--val-labels has no effect on --split ", split);
}

}  // namespace

const EvalTask& eval_task(const cxxopts::ParseResult& parsed, const std::vector<OptionRow>& rows) {
  std::size_t asked = parsed.count("analyze");
  for (const std::string mode : modes) asked += times_asked(parsed, mode);
  check(asked <= 1, ErrorKind::usage,
        "--analyze, --compare, --confusion, --export, --logits, --per-class and --predict: one at a time");
  const EvalTask& task = task_of(parsed);
  refuse_without_effect(parsed, task, rows);
  return task;
}

}  // namespace faq
