// faq-eval: the accuracy of a network, integer or float, and what it makes of single images.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <iostream>
#include <optional>

#include "core/parallel.h"
#include "core/text.h"
#include "tools/analysis.h"
#include "tools/cli.h"
#include "tools/eval_text.h"
#include "tools/network_choice.h"
#include "tools/option_text.h"
#include "tools/waiting.h"
#include "train/confusion.h"
#include "train/evaluate.h"
#include "train/evaluation_data.h"
#include "train/image_sample.h"
#include "train/metrics.h"
#include "train/option_table.h"
#include "train/progress_display.h"
#include "train/share_cpus.h"
#include "train/signals.h"

namespace {

using namespace faq;
using nlohmann::json;

// Which of the training options make sense here.
std::vector<OptionRow> eval_options() {
  std::vector<OptionRow> rows;
  for (const char* name :
       {"model",           "weights",       "ignore-extra",        "num-classes", "in-channels", "data-path",
        "dataset",         "class-order",   "allow-empty-classes", "val-labels",  "batch-size",  "workers",
        "val-resize-size", "val-crop-size", "interpolation",       "mean",        "std",         "skip-bad",
        "engine",          "threads",       "output-dir",          "rank-timeout"}) {
    rows.push_back(find_option(name));
  }
  return rows;
}

// Before the work, which may take hours.
void make_output_folder(const std::string& folder) {
  std::error_code error;
  if (!folder.empty()) std::filesystem::create_directories(folder, error);
  check(!error, ErrorKind::io, "creating the output folder ", folder, ": ", error.message());
}

int report(const Analysis& analysis, const cxxopts::ParseResult& parsed, const std::string& folder) {
  if (cli::is_on(parsed, "json"))
    cli::print_json(analysis.result);
  else
    cli::print_result(analysis.table);
  if (!folder.empty()) save(analysis, folder, cli::text_of(parsed, "analyze"));
  return 0;
}

std::vector<GradFormat> grad_formats_of(const cxxopts::ParseResult& parsed) {
  std::vector<GradFormat> formats;
  for (const std::string& name : split(cli::text_of(parsed, "grad-dtypes"), ',')) {
    const std::array all{GradFormat::f32, GradFormat::bf16, GradFormat::s8, GradFormat::s8_data};
    const auto found =
        std::ranges::find(all, name, [](const GradFormat& f) { return std::string(name_of(f)); });
    check(found != all.end(), ErrorKind::usage, "--grad-dtypes ", name,
          ": expected some of f32, bf16, s8 and s8-data");
    formats.push_back(*found);
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

// Those that open weights and data for themselves.
int analyze(const cxxopts::ParseResult& parsed, TrainOptions options, const std::string& command,
            ProgressDisplay::Says says) {
  const auto kind = cli::text_of(parsed, "analyze");
  if (kind == "sensitivity" || kind == "bits") {
    check(parsed.count("config"), ErrorKind::usage, "--analyze ", kind,
          " wants --config, the config.json of a run");
    const std::string folder = options.output_dir;
    options = cli::options_from(cli::text_of(parsed, "config"), cli::given_settings(parsed, eval_options()));
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
    return report(show(weight_similarity(options.weights, baseline), options.weights, baseline), parsed,
                  options.output_dir);
  }
  if (kind == "gradient-noise")
    return report(gradient_noise_analysis(parsed, options, display), parsed, options.output_dir);
  Metrics metrics;
  const RunContext context{
      .command = command, .listeners = {&metrics, &display}, .stop = install_stop_handlers()};
  return report(kind == "bits" ? show_widths(train_at_widths(options, context))
                               : show_sensitivity(sensitivity(options, context)),
                parsed, options.output_dir);
}

// What can be asked for instead of an evaluation, one at a time; --analyze, too, of several kinds.
constexpr const char* modes[] = {"per-class", "confusion", "compare", "predict", "export"};

// What is done, and the options that it alone reads, or does not read. Whoever gives one expects an effect.
struct Task {
  const char* name;
  std::vector<std::string> own = {};
  std::vector<std::string> ignored = {};
};

// Images are one question, however many they are.
std::size_t times_asked(const cxxopts::ParseResult& parsed, const std::string& mode) {
  if (mode == "per-class" || mode == "confusion") return cli::is_on(parsed, mode) ? 1 : 0;
  return mode == "predict" ? std::min<std::size_t>(parsed.count(mode), 1) : parsed.count(mode);
}

const Task& task_of(const cxxopts::ParseResult& parsed) {
  // What says where a data set is, and how it is read.
  static const std::vector<std::string> of_images{"split",       "data-path",  "dataset",
                                                  "class-order", "batch-size", "allow-empty-classes",
                                                  "val-labels",  "workers",    "skip-bad"};
  const auto and_also = [](std::vector<std::string> names, const std::vector<std::string>& more) {
    names.insert(names.end(), more.begin(), more.end());
    return names;
  };
  static const Task tasks[] = {
      {"an evaluation", {"class-names"}},
      {"--per-class", {"class-names"}},
      {"--confusion", {"class-names"}},
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
  std::string name = "an evaluation";
  for (const std::string mode : modes)
    if (times_asked(parsed, mode) > 0) name = "--" + mode;
  if (parsed.count("analyze")) name = "--analyze " + cli::text_of(parsed, "analyze");
  const auto found = std::ranges::find(tasks, name, &Task::name);
  check(found != std::end(tasks), ErrorKind::usage, name,
        ": expected one of cosine, gradient-noise, sensitivity, bits, weight-scales");
  return *found;
}

// The images that arguments of --predict name: files, those in folders, those that lines of the standard
// input name.
std::vector<std::string> files_of(const std::vector<std::string>& arguments) {
  std::vector<std::string> files;
  std::error_code none;
  for (const std::string& argument : arguments) {
    if (argument == "-") {
      for (std::string line; std::getline(std::cin, line);) {
        if (line.ends_with('\r')) line.pop_back();
        if (!line.empty()) files.push_back(std::move(line));
      }
      check(!std::cin.bad(), ErrorKind::io, "reading names of images from the standard input");
      check(!files.empty(), ErrorKind::bad_data, "--predict -: the standard input names no image");
    } else if (std::filesystem::is_directory(argument, none)) {
      for (std::string& file : images_in(argument)) files.push_back(std::move(file));
    } else {
      files.push_back(argument);
    }
  }
  return files;
}

Evaluation evaluate_counting(const Network& network, Loader& loader, Scores& scores, Confusion& confusion,
                             RunListener& listener) {
  const double seconds = for_each_batch(
      network.forward, loader,
      [&](const Batch& batch, const Tensor& logits) {
        scores.add(logits, batch.labels);
        confusion.add(logits, batch.labels);
      },
      listener, [&] { return fmt::format("top-1 {:.2f}", scores.result().top1); });
  Evaluation result = scores.result();
  result.images_per_s = static_cast<double>(result.images) / seconds;
  return result;
}

void refuse_without_effect(const cxxopts::ParseResult& parsed, const std::vector<OptionRow>& rows) {
  static const std::vector<std::string> own_of_some{"class-names", "output-dir",  "baseline",
                                                    "batches",     "batch-sizes", "config"};
  const Task& task = task_of(parsed);
  const auto among = [](const std::vector<std::string>& names, const std::string& name) {
    return std::ranges::find(names, name) != names.end();
  };
  for (const std::string& name : cli::given_names(parsed, rows))
    check(!among(task.ignored, name) && (among(task.own, name) || !among(own_of_some, name)),
          ErrorKind::usage, "--", name, " has no effect on ", task.name);
  check(task.name != std::string("an evaluation") || parsed.count("class-names") == 0 ||
            parsed.count("allow-empty-classes") > 0,
        ErrorKind::usage, "--class-names has no effect on an evaluation without --allow-empty-classes");
  const std::string split = cli::text_of(parsed, "split");
  check(parsed.count("val-labels") == 0 || split == "val", ErrorKind::usage,
        "--val-labels has no effect on --split ", split);
}

Split split_named(const std::string& name) {
  for (const auto& [known, split] :
       {std::pair{"train", Split::train}, {"val", Split::val}, {"test", Split::test}})
    if (name == known) return split;
  fail(ErrorKind::usage, "--split ", name, ": expected train, val or test");
}

int body(int argc, char** argv, Communicator& all) {
  cli::Parser parser("faq-eval",
                     "Evaluates an integer network, a checkpoint or float weights on a data set.");
  const std::vector<OptionRow> rows = eval_options();
  cli::add_options(parser, rows);
  cli::add_options(
      parser, "run",
      {{.names = "split",
        .help = "train, val or test",
        .value = "SPLIT",
        .preset = "val",
        .choices = {"train", "val", "test"}},
       {"per-class", "accuracy and loss of every class"},
       {"confusion", "how many images of which class are taken for which"},
       {.names = "predict",
        .help = "the five likeliest classes of these images, or of those in a folder; -: of the files that "
                "lines of the standard input name",
        .value = "IMAGE…",
        .repeatable = true},
       {"compare", "another network on the same images: agreement, and layer by layer", "FILE"},
       {"use-ema",
        "of a checkpoint: the moving average of its run (--model-ema), not the network in training"},
       {"export", "write the integer network of a quantized checkpoint", "FILE"},
       {"class-names",
        "lines of names in class order, or of FOLDER<tab>NAME; with --allow-empty-classes also which class "
        "of plain "
        "weights each folder of the data is",
        "FILE"},
       {.names = "analyze",
        .help =
            "cosine, gradient-noise, sensitivity, bits or weight-scales: a table, and in --output-dir JSON "
            "and a figure",
        .value = "WHAT",
        .choices = {"cosine", "gradient-noise", "sensitivity", "bits", "weight-scales"}},
       {"baseline", "--analyze cosine: the weights before", "FILE"},
       {"batches", "--analyze gradient-noise: of every size", "N", "50"},
       {"batch-sizes", "--analyze gradient-noise: images per batch", "N,…", "32,128,512"},
       {"widths", "--analyze gradient-noise: bits of weights and activations; 32: not quantized", "N,…",
        "32,8,6,5,4,3,2"},
       {"grad-dtypes",
        "--analyze gradient-noise: of f32, bf16, s8 and s8-data, those to compare with f32, parameter by "
        "parameter; default: what training takes, without a comparison",
        "DTYPE,…"},
       {"c,config", "--analyze sensitivity and bits: the config.json of a run", "FILE"},
       {"quiet", "no progress on stderr, warnings only"}});
  // Arguments without a name are images, when images are asked for.
  const bool predicting = std::any_of(argv + 1, argv + argc, [](const char* argument) {
    return std::string_view(argument).starts_with("--predict");
  });
  const auto parsed = cli::parse(parser, argc, argv, predicting ? "predict" : "");
  if (cli::help_or_version(parser, parsed)) return 0;

  TrainOptions options = assemble(json::object(), cli::given_settings(parsed, rows));
  const Split split = split_named(cli::text_of(parsed, "split"));
  std::size_t asked = parsed.count("analyze");
  for (const std::string mode : modes) asked += times_asked(parsed, mode);
  check(asked <= 1, ErrorKind::usage,
        "--analyze, --compare, --confusion, --export, --per-class and --predict: one at a time");
  refuse_without_effect(parsed, rows);
  check_options(options);
  all.set_lost_after(options.rank_timeout);
  // An evaluation is shared by the ranks. Everything else is done by one, and the others wait for it.
  const std::string task = task_of(parsed).name;
  const bool shared = task == "an evaluation" || task == "--per-class";
  if (!shared && !all.is_first()) return 0;
  if (!shared) cli::say_one_rank_works(task, all);
  Communicator& ranks = shared ? all : single_process();
  const CpuShare cpus = share_cpus(ranks, options.threads);
  const ProgressDisplay::Says says = cli::says(parsed);
  const bool of_scales = parsed.count("analyze") && cli::text_of(parsed, "analyze") == "weight-scales";
  if (parsed.count("analyze") && !of_scales)
    return analyze(parsed, options, cli::command_line(argc, argv), says);
  const bool as_json = cli::is_on(parsed, "json");
  const auto print = [as_json](const json& result, auto text) {
    if (as_json)
      cli::print_json(result);
    else
      cli::print_result(text(result));
    return 0;
  };
  NetworkChoice choice = cli::network_choice(parsed, options);
  NetworkChoice other_choice = choice;
  if (parsed.count("compare")) {
    other_choice.weights = cli::text_of(parsed, "compare");
    other_choice.average = false;
    // What plain weights need said is not said of the other file, which says it itself.
    const bool known = describes_itself(choice.weights),
               known_of_other = describes_itself(other_choice.weights);
    NetworkChoice& knowing = known ? choice : other_choice;
    if (known != known_of_other) knowing.model.clear(), knowing.mean.clear(), knowing.std.clear();
  }
  Network opened_network = open_network(choice);
  // Plain weights do not name their classes: a file does, for data that have some of them only.
  if (options.allow_empty_classes && parsed.count("class-names") && !parsed.count("predict")) {
    std::vector<std::string>& known = opened_network.preprocessing.class_names;
    check(known.empty() || task_of(parsed).name != std::string("an evaluation"), ErrorKind::usage,
          "--class-names has no effect: ", choice.weights, " names its classes");
    if (known.empty())
      known = read_class_folders(cli::text_of(parsed, "class-names"), opened_network.num_classes);
  }
  const Network& network = opened_network;
  const auto say_notes = [&all, says](const Network& opened) {
    ProgressDisplay display(all.is_first() ? says : ProgressDisplay::Says::nothing, cli::with_options);
    for (const std::string& note : opened.notes) display.line(note);
  };
  say_notes(network);
  const auto names_of = [&](const std::vector<std::string>& folders) {
    return parsed.count("class-names")
               ? read_class_names(cli::text_of(parsed, "class-names"), folders, network.num_classes)
               : ClassNames{folders};
  };
  const auto preprocessing = [&] {
    return preprocessing_for(network, options, [&] { return model_info(network.model).input_size; });
  };
  if (parsed.count("export")) {
    const std::string file = cli::text_of(parsed, "export");
    return print(export_json(network, export_integer_network(network, preprocessing(), file), file),
                 export_text);
  }
  if (parsed.count("predict")) {
    const ClassNames names = names_of(network.preprocessing.class_names);
    const Preprocessing seen = preprocessing();
    json result{{"kind", network.kind}, {"predictions", json::array()}};
    const std::vector<std::string> files = files_of(parsed["predict"].as<std::vector<std::string>>());
    if (const ImageSample sample = sample_of(files, seen.channels); sample.images > 0) {
      DataChoice done = options;
      done.val_crop_size = seen.height;
      done.val_resize_size = seen.resize;
      done.interpolation = seen.interpolation;
      ProgressDisplay(says).line(text_of_preprocessing(sample, done, false));
    }
    // Those that can be read are predicted; then the others end the program.
    std::vector<Error> unread;
    for (const std::string& file : files) {
      try {
        result["predictions"].push_back(prediction_json(file, predict(network, seen, file), names));
      } catch (const Error& error) {
        if (error.kind() != ErrorKind::bad_data && error.kind() != ErrorKind::missing_input) throw;
        unread.push_back(error);
      }
    }
    if (!result["predictions"].empty()) print(result, predictions_text);
    if (unread.size() > 1)
      fail(unread.front().kind(), unread.front().what(), "; ", unread.size() - 1,
           " more images cannot be used");
    if (!unread.empty()) throw unread.front();
    return 0;
  }

  const EvaluationData data = open_evaluation_data(network, options, options.batch_size, split, ranks);
  ProgressDisplay display(ranks.is_first() ? says : ProgressDisplay::Says::nothing, cli::with_options);
  const auto begin = [&] {  // nothing is refused any more
    for (const std::string& line : cpus.lines) display.line(line);
    for (const std::string& note : data.notes) tell(display, note);
  };
  if (parsed.count("compare")) {
    const Network other = open_network(other_choice);
    say_notes(other);
    check_classes(other, data.dataset->class_names(), concat("data ", options.data_path));
    check(other.num_classes == network.num_classes &&
              other.preprocessing.channels == network.preprocessing.channels,
          ErrorKind::usage, "--compare ", other.weights, ": ", other.num_classes, " classes and ",
          other.preprocessing.channels, " channels, the network has ", network.num_classes, " and ",
          network.preprocessing.channels);
    preprocessing_for(other, options, [&] { return network.preprocessing.height; });  // or it is refused
    begin();
    return print(comparison_json(network, other, compare(network, other, *data.loader, display)),
                 comparison_text);
  }
  if (of_scales) {
    make_output_folder(options.output_dir);
    return report(show(weight_scale_scores(network, *data.loader, display), options.weights), parsed,
                  options.output_dir);
  }
  const std::vector<std::string>& classes = data.dataset->class_names();
  const ClassNames names = names_of(classes);
  begin();
  Scores scores;
  Confusion confusion;
  const Evaluation evaluation = cli::is_on(parsed, "confusion")
                                    ? evaluate_counting(network, *data.loader, scores, confusion, display)
                                    : evaluate(network.forward, *data.loader, scores, display, {}, ranks);
  check_agreed(std::isfinite(evaluation.loss), ErrorKind::bad_data, network.weights,
               ": the loss of an image is beyond 2^32: the logits are no logits");
  const auto faulty_here = static_cast<std::int64_t>(data.loader->faulty_samples().size());
  const auto images = ranks.start_sum({data.loader->skipped(), faulty_here}).get();
  const std::int64_t skipped = images[0], faulty = images[1];
  check_agreed(skipped <= options.skip_bad, ErrorKind::bad_data, skipped,
               " images cannot be used, `skip_bad` ", options.skip_bad);
  json result = evaluation_json(network, evaluation, skipped, faulty);
  if (cli::is_on(parsed, "per-class")) result["classes"] = per_class_json(scores, names, classes.size());
  if (cli::is_on(parsed, "confusion")) result["confusion"] = confusion_json(confusion, names, classes.size());
  return print(result, evaluation_text);
}

}  // namespace

int main(int argc, char** argv) {
  faq::cli::bound_waiting(argv);
  return faq::cli::run_on_ranks("faq-eval",
                                [&](faq::Communicator& ranks) { return body(argc, argv, ranks); });
}
