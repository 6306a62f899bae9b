#include "tools/eval_analyses.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <optional>

#include "core/text.h"
#include "tools/option_text.h"
#include "train/metrics.h"
#include "train/option_table.h"
#include "train/signals.h"

namespace faq {
namespace {

std::vector<GradFormat> grad_formats_of(const cxxopts::ParseResult& parsed) {
  std::vector<GradFormat> formats;
  for (const std::string& name : split(cli::text_of(parsed, "grad-dtypes"), ',')) {
    TrainOptions options;
    find_option("grad-dtype").field.set(options, {"grad-dtypes", name});
    formats.push_back(*options.grad_format);
  }
  return formats;
}

Analysis gradient_noise_analysis(const cxxopts::ParseResult& parsed, const TrainOptions& options,
                                 ProgressDisplay& display) {
  GradientNoiseStudy study{.model = options,
                           .data = options,
                           .batch_sizes = cli::counts_of(parsed, "batch-sizes", 1, 1'000'000),
                           .batches = cli::count_of(parsed, "batches", 2),
                           .engine = options.engine};
  study.bits = cli::counts_of(parsed, "widths", 2, 32);
  if (parsed.count("grad-dtypes")) study.grad_formats = grad_formats_of(parsed);
  if (!parsed.count("model")) study.model.model.clear();
  std::optional<std::chrono::steady_clock::time_point> start;  // when the first row was there
  std::int64_t done = 0;
  const auto rows = gradient_noise(study, display, [&](const GradientNoiseRow& row, std::size_t all) {
    const auto now = std::chrono::steady_clock::now();
    const auto total = static_cast<std::int64_t>(all);
    const std::chrono::duration<double> passed = now - start.value_or(now);
    start = start.value_or(now);
    if (done++ > 0 && display.due(seconds_between_lines))
      display.update(
          {.title = "gradient noise, row",
           .done = done,
           .total = total,
           .seconds_left = passed.count() * static_cast<double>(total - done) / static_cast<double>(done - 1),
           .figures = {fmt::format("{} bits, batches of {}", row.bits, row.batch_size)}});
  });
  display.clear();
  return show(rows, study);
}

}  // namespace

void make_output_folder(const std::string& folder) {
  std::error_code error;
  if (!folder.empty()) std::filesystem::create_directories(folder, error);
  check(!error, ErrorKind::io, "creating the output folder ", folder, ": ", error.message());
}

void report_analysis(const Analysis& analysis, const cxxopts::ParseResult& parsed,
                     const std::string& folder) {
  if (cli::is_on(parsed, "json"))
    cli::print_json(analysis.result);
  else
    cli::print_result(analysis.table);
  if (!folder.empty()) save(analysis, folder, cli::text_of(parsed, "analyze"));
}

void run_analysis(const cxxopts::ParseResult& parsed, TrainOptions options,
                  const std::vector<OptionRow>& rows, const std::string& command,
                  ProgressDisplay::Says says) {
  const auto kind = cli::text_of(parsed, "analyze");
  if (kind == "sensitivity" || kind == "bits") {
    check(parsed.count("config"), ErrorKind::usage, "--analyze ", kind,
          " wants --config, the config.json of a run");
    const std::string folder = options.output_dir;
    options = cli::options_from(cli::text_of(parsed, "config"), cli::given_settings(parsed, rows));
    options.output_dir = folder;
  }
  make_output_folder(options.output_dir);
  ProgressDisplay display(says, cli::with_options);
  if (kind == "cosine") {
    check(
        !options.weights.empty() && parsed.count("baseline"), ErrorKind::usage,
        "--analyze cosine wants --weights, the quantized network, and --baseline, the weights it came from");
    check(!parsed.count("model"), ErrorKind::usage, "--model has no effect with --analyze cosine");
    const std::string baseline = cli::text_of(parsed, "baseline");
    return report_analysis(show(weight_similarity(options.weights, baseline), options.weights, baseline),
                           parsed, options.output_dir);
  }
  if (kind == "gradient-noise")
    return report_analysis(gradient_noise_analysis(parsed, options, display), parsed, options.output_dir);
  Metrics metrics;
  const RunContext context{
      .command = command, .listeners = {&metrics, &display}, .stop = install_stop_handlers()};
  return report_analysis(kind == "bits" ? show_widths(train_at_widths(options, context))
                                        : show_sensitivity(sensitivity(options, context)),
                         parsed, options.output_dir);
}

}  // namespace faq
