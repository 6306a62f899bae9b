// What faq-eval is asked for: an evaluation, or something else instead.
#pragma once

#include <string>
#include <vector>

#include "tools/cli.h"
#include "train/option_table.h"

namespace faq {

/// What is done, and the options that it alone reads, or does not read. Whoever gives one expects an effect.
struct EvalTask {
  const char* name;  ///< "an evaluation", or as it is asked for: "--compare", "--analyze cosine"
  std::vector<std::string> own = {};
  std::vector<std::string> ignored = {};
  bool is_shared = false;          ///< by the ranks; else one does it, and the others wait
  bool names_are_matched = false;  ///< --class-names is for --allow-empty-classes alone
};

/// The task of a command line. `rows`: the training options that faq-eval has. Throws usage for several tasks
/// at once, one that is not known, and an option that has no effect on it.
const EvalTask& eval_task(const cxxopts::ParseResult& parsed, const std::vector<OptionRow>& rows);

}  // namespace faq
