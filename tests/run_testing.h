// Runs of faq-train on a small data set, and what they leave behind.
#pragma once

#include <nlohmann/json.hpp>

#include "core/text.h"
#include "tests/testing.h"

namespace faq::testing {

using nlohmann::json;

// 200 training images in batches of 20: ten steps an epoch.
inline const fs::path& images() {
  static const TemporaryFolder folder;
  static const bool written = (write_data_set(folder.path()), true);
  (void)written;
  return folder.path();
}

inline Words training(const fs::path& output, const Words& more = {}) {
  return Words{"--model",      "resnet20",
               "--data-path",  images().string(),
               "--output-dir", output.string(),
               "--epochs",     "2",
               "-b",           "20",
               "--lr",         "0.01",
               "--threads",    "1",
               "-j",           "1",
               "--print-freq", "1",
               "--seed",       "3"} +
         more;
}

inline const Words faq_options{"--scheme", "faq", "--bits", "4", "--calibration-batches", "2"};

inline Outcome train_by_program(const fs::path& output, const Words& more = {}) {
  return run_program(FAQ_TRAIN, training(output, more));
}

inline void require_done(const Outcome& outcome) {
  INFO(outcome.err);
  REQUIRE(outcome.signal == 0);
  REQUIRE(outcome.code == 0);
}

inline std::vector<json> metrics(const fs::path& output) {
  std::vector<json> lines;
  for (const std::string& line : lines_of(file_bytes(output / "metrics.jsonl")))
    lines.push_back(json::parse(line));
  return lines;
}

// The steps of the lines of training, and the epochs of those of validation.
inline std::vector<int> steps_of(const fs::path& output) {
  std::vector<int> steps;
  for (const json& line : metrics(output))
    if (!line.contains("top1")) steps.push_back(line.at("step"));
  return steps;
}
inline std::vector<int> epochs_of(const fs::path& output) {
  std::vector<int> epochs;
  for (const json& line : metrics(output))
    if (line.contains("top1")) epochs.push_back(line.at("epoch"));
  return epochs;
}

inline std::vector<int> count_to(int first, int last) {
  std::vector<int> numbers;
  for (int i = first; i <= last; ++i) numbers.push_back(i);
  return numbers;
}

// Everything a finished run leaves behind, against that of another one.
inline void check_same_run(const fs::path& actual, const fs::path& expected, int steps) {
  for (const char* name : {"last.safetensors", "best.safetensors", "integer.safetensors"}) {
    if (!fs::exists(expected / name)) continue;
    INFO(name);
    REQUIRE(fs::exists(actual / name));
    CHECK(tensor_difference(actual / name, expected / name).empty());
  }
  CHECK(steps_of(actual) == count_to(1, steps));
  CHECK(epochs_of(actual) == std::vector{0, 1, 2});
  const auto rows = [](const fs::path& folder) {  // without the column that is a speed
    std::vector<std::vector<std::string>> kept;
    for (const std::string& line : lines_of(file_bytes(folder / "summary.csv"))) {
      auto& row = kept.emplace_back(split(line));
      row.erase(row.begin() + 7);
    }
    return kept;
  };
  const auto lines = [](const fs::path& folder) {  // without what depends on the machine
    std::vector<json> kept = metrics(folder);
    for (json& line : kept)
      for (const char* key : {"images_per_s", "val_images_per_s", "peak_bytes"}) line.erase(key);
    return kept;
  };
  CHECK(lines(actual) == lines(expected));
  CHECK(rows(actual).size() == 4);  // header, before training, two epochs
  CHECK(rows(actual) == rows(expected));
}

inline bool reached(const fs::path& output, int step) {
  const fs::path file = output / "metrics.jsonl";
  if (!fs::exists(file)) return false;
  return file_bytes(file).find(concat("\"step\":", step, ",")) != std::string::npos;
}

}  // namespace faq::testing
