// The programs as users meet them: a tiny data set, finished runs of it, and how refusals look.
#pragma once

#include <map>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "tests/testing.h"

namespace faq::testing {

inline const fs::path& tiny_images() {
  static const TemporaryFolder folder;
  static const bool written = (write_data_set(folder.path(), 60, 30), true);
  (void)written;
  return folder.path();
}

// A finished run of one epoch, for everybody to read.
inline const fs::path& finished_run(const std::string& scheme) {
  static const TemporaryFolder folder;
  static std::map<std::string, fs::path> runs;
  fs::path& run = runs[scheme];
  if (!run.empty()) return run;
  run = folder / scheme;
  const Words bits = scheme == "none" ? Words{} : Words{"--bits", "4"};
  const Outcome outcome =
      run_program(FAQ_TRAIN, Words{"--data-path", tiny_images().string(), "--output-dir", run.string(),
                                   "--scheme", scheme, "-b", "20", "--epochs", "1", "--lr", "0.05",
                                   "--threads", "1", "-j", "1", "--val-resize-size", "20", "--quiet"} +
                                 bits);
  INFO(outcome.err);
  REQUIRE(outcome.code == 0);
  return run;
}

struct Refusal {
  const char* what;
  const char* program;
  Words arguments;
  int code;
  const char* message;  ///< in the one line on stderr
};

inline void check_refused(const Refusal& row) {
  INFO(row.what);
  const Outcome outcome = run_program(row.program, row.arguments);
  INFO(outcome.err);
  CHECK(outcome.signal == 0);
  CHECK(outcome.code == row.code);
  CHECK(outcome.out.empty());
  const std::vector<std::string> lines = lines_of(outcome.err);
  REQUIRE(lines.size() == 1);
  const std::string name = fs::path(row.program).filename().string();
  CHECK(lines[0].starts_with(name + ": "));
  CHECK(lines[0].find(row.message) != std::string::npos);
}

inline nlohmann::json result_of(const Words& arguments) {
  const Outcome outcome = run_program(FAQ_EVAL, arguments + Words{"--json", "--threads", "1"});
  INFO(outcome.err);
  REQUIRE(outcome.code == 0);
  REQUIRE(lines_of(outcome.out).size() == 1);
  return nlohmann::json::parse(outcome.out);
}

}  // namespace faq::testing
