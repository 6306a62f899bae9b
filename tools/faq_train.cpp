// faq-train: fine-tune a network in the integers it will be deployed in.
#include <fmt/format.h>
#include <unistd.h>

#include <filesystem>

#include "core/terminal.h"
#include "core/text.h"
#include "nn/models.h"
#include "tools/cli.h"
#include "tools/option_effects.h"
#include "tools/option_text.h"
#include "tools/plan_text.h"
#include "tools/train_text.h"
#include "tools/waiting.h"
#include "train/dry_run.h"
#include "train/progress_display.h"
#include "train/run_files.h"
#include "train/signals.h"
#include "train/trainer.h"

namespace {

using namespace faq;

nlohmann::json models_json() {
  nlohmann::json models = nlohmann::json::array();
  for (const ModelInfo& info : list_models()) {
    const ModelCost cost = model_cost(info.name, {.num_classes = info.num_classes, .in_channels = 3});
    models.push_back({{"name", info.name},
                      {"family", info.family},
                      {"input", info.input_size},
                      {"classes", info.num_classes},
                      {"parameters", cost.parameters},
                      {"macs", cost.macs}});
  }
  return models;
}

std::string model_list(const nlohmann::json& models) {
  std::string text =
      fmt::format("{:<18} {:<12} {:>5} {:>12} {:>14}\n", "name", "family", "input", "parameters", "MACs");
  for (const nlohmann::json& model : models)
    text += fmt::format("{:<18} {:<12} {:>5} {:>12} {:>14}\n", model["name"].get<std::string>(),
                        model["family"].get<std::string>(), model["input"].get<int>(),
                        model["parameters"].get<std::int64_t>(), model["macs"].get<std::int64_t>());
  return text;
}

nlohmann::json to_json(const Evaluation& e) {
  return {{"top1", e.top1},
          {"top5", e.top5},
          {"loss", e.loss},
          {"images", e.images},
          {"images_per_s", e.images_per_s}};
}

int body(int argc, char** argv, Communicator& ranks) {
  cli::Parser parser("faq-train", "Calibrates, quantizes and fine-tunes an image classifier in integers.");
  cli::add_options(parser, option_table());
  cli::add_options(parser, "quantization", {{"bits", "sets --weight-bits and --act-bits", "B"}});
  cli::add_options(parser, "run",
                   {{"c,config", "options from a JSON file; the command line wins", "FILE"},
                    {"dry-run", "resolve, load, calibrate, print the plan and the layers; train nothing"},
                    {"list-models", "the networks, with parameters and MACs"},
                    {"quiet", "no progress on stderr, warnings only"}});
  const auto parsed = cli::parse(parser, argc, argv);
  if (cli::help_or_version(parser, parsed)) return 0;
  if (cli::is_on(parsed, "list-models")) {
    if (cli::is_on(parsed, "json"))
      cli::print_json(models_json());
    else
      cli::print_result(model_list(models_json()));
    return 0;
  }

  std::vector<Setting> settings;
  if (parsed.count("bits")) settings.emplace_back("bits", cli::text_of(parsed, "bits"));
  for (Setting& setting : cli::given_settings(parsed, option_table())) settings.push_back(std::move(setting));
  const TrainOptions options = parsed.count("config")
                                   ? cli::options_from(cli::text_of(parsed, "config"), settings)
                                   : assemble(nlohmann::json::object(), settings);
  refuse_without_effect(settings, options);
  const bool json = cli::is_on(parsed, "json");
  ranks.set_lost_after(options.rank_timeout);

  if (cli::is_on(parsed, "dry-run")) {
    if (!ranks.is_first()) return 0;
    cli::say_one_rank_works("--dry-run", ranks);
    TrainOptions of_run = options;
    of_run.shards = shards_of(options, ranks.size());
    const nlohmann::json plan = dry_run(of_run);
    if (json)
      cli::print_json(plan);
    else
      cli::print_result(plan_text(plan));
    return 0;
  }
  ProgressDisplay display(cli::says(parsed), cli::with_options);
  const StopToken stop = install_stop_handlers();
  RunFiles files(display, stop);
  const TrainResult result = train(options, {.command = cli::command_line(argc, argv),
                                             .listeners = files.listeners(),
                                             .stop = stop,
                                             .ranks = &ranks});
  if (json) {
    cli::print_json({{"stopped", result.stopped},
                     {"epochs", result.epochs},
                     {"stages", files.details().is_object() ? files.details()["stages"] : nlohmann::json()},
                     {"initial", to_json(result.initial)},
                     {"last", to_json(result.last)},
                     {"best", to_json(result.best)},
                     {"best_epoch", result.best_epoch},
                     {"seconds", result.seconds},
                     {"images_per_s", result.train_images_per_s},
                     {"peak_bytes", result.peak_bytes},
                     {"skipped", result.skipped},
                     {"recoverable_faults", result.faulty},
                     {"ranks", result.ranks},
                     {"exchange_seconds", result.exchange_seconds},
                     {"wait_seconds", result.wait_seconds}});
  } else if (!result.stopped) {
    const bool quantized = options.scheme != Scheme::none;
    // Launchers give a rank a terminal of its own, whatever their own output is.
    const bool with_colours = ranks.size() == 1 && wants_colour(STDOUT_FILENO);
    cli::print_result(stages_text(files.details(), result, quantized, with_colours) + summary_text(result));
    if (ranks.is_first()) {
      std::error_code none;
      const bool has_report =
          std::filesystem::exists(std::filesystem::path(options.output_dir) / "report.html", none);
      for (const std::string& line : split(next_text(options, has_report), '\n'))
        if (!line.empty()) display.line(line);
    }
  }
  if (result.stopped) {
    fail(ErrorKind::stopped, "stopped by a signal after saving a checkpoint in ", options.output_dir,
         "; run the same command with --resume auto to continue");
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  faq::cli::bound_waiting(argv);
  return faq::cli::run_on_ranks("faq-train",
                                [&](faq::Communicator& ranks) { return body(argc, argv, ranks); });
}
