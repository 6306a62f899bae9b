// faq-eval --analyze.
#pragma once

#include <string>
#include <vector>

#include "tools/analysis.h"
#include "tools/cli.h"
#include "train/option_table.h"
#include "train/progress_display.h"

namespace faq {

/// Before the work, which may take hours. Throws io.
void make_output_folder(const std::string& folder);
/// Prints an analysis, and saves it in `folder` unless that is empty.
void report_analysis(const Analysis& analysis, const cxxopts::ParseResult& parsed, const std::string& folder);

/// Makes and reports one of those that open weights and data for themselves: all but weight-scales.
/// `rows`: the training options that faq-eval has; `command`: the command line.
void run_analysis(const cxxopts::ParseResult& parsed, TrainOptions options,
                  const std::vector<OptionRow>& rows, const std::string& command, ProgressDisplay::Says says);

}  // namespace faq
