// faq-eval: the accuracy of a network, integer or float, and what it makes of single images.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <numeric>
#include <sstream>

#include "core/kernels/loss.h"
#include "core/parallel.h"
#include "data/decode.h"
#include "quant/compile.h"
#include "tools/analysis.h"
#include "tools/cli.h"
#include "tools/waiting.h"
#include "train/compare.h"
#include "train/evaluate.h"
#include "train/metrics.h"
#include "train/open_network.h"
#include "train/option_table.h"
#include "train/progress_display.h"
#include "train/run_record.h"
#include "train/setup.h"
#include "train/signals.h"
#include "train/threads_text.h"

namespace {

using namespace faq;
using nlohmann::json;

// Which of the training options make sense here.
std::vector<OptionRow> eval_options() {
  std::vector<OptionRow> rows;
  for (const char* name :
       {"model", "weights", "num-classes", "in-channels", "data-path", "dataset", "batch-size", "workers",
        "val-resize-size", "val-crop-size", "mean", "std", "skip-bad", "engine", "threads", "output-dir"}) {
    rows.push_back(find_option(name));
  }
  return rows;
}

/// What a file of names calls each class: lines "NAME" in class order, or "FOLDER<tab>NAME".
std::vector<std::string> named(const std::string& file, const std::vector<std::string>& folders,
                               int classes) {
  std::istringstream in(cli::read_text("class names", file));
  std::vector<std::string> in_order;
  std::map<std::string, std::string> by_folder;
  for (std::string line; std::getline(in, line);) {
    if (line.ends_with('\r')) line.pop_back();
    if (line.empty() && in.peek() == std::istringstream::traits_type::eof()) break;  // an empty last line
    const auto tab = line.find('\t');
    if (tab == std::string::npos) {
      in_order.push_back(line);
    } else {
      by_folder[line.substr(0, tab)] = line.substr(tab + 1);
      in_order.push_back(line.substr(tab + 1));
    }
  }
  const bool by_order = by_folder.empty() || folders.empty();
  check(!by_order || std::ssize(in_order) == classes, ErrorKind::bad_data, "class names ", file, ": ",
        in_order.size(), " lines, the network has ", classes, " classes");
  if (by_order) return in_order;
  std::vector<std::string> names;
  for (const std::string& folder : folders)
    names.push_back(by_folder.contains(folder) ? by_folder[folder] : folder);
  return names;
}

struct Names {
  std::vector<std::string> names;
  std::string of(std::size_t index) const {
    return index < names.size() ? names[index] : std::to_string(index);
  }
};

// --- what can be asked for, each as JSON and as text

json evaluate(const Network& network, const Dataset& dataset, Loader& loader, ProgressDisplay& display,
              const Names* per_class) {
  Scores scores;
  const Evaluation e = faq::evaluate(network.forward, loader, scores, display);
  json result{{"top1", e.top1},
              {"top5", e.top5},
              {"loss", e.loss},
              {"images", e.images},
              {"images_per_s", e.images_per_s},
              {"skipped", loader.skipped()},
              {"kind", network.kind}};
  if (!per_class) return result;
  for (std::size_t k = 0; k < dataset.class_names().size(); ++k) {
    const Evaluation of = scores.of_class(static_cast<std::int32_t>(k));
    result["classes"].push_back({{"class", per_class->of(k)},
                                 {"images", of.images},
                                 {"top1", of.top1},
                                 {"top5", of.top5},
                                 {"loss", of.loss}});
  }
  return result;
}

std::string evaluation_text(const json& e) {
  const auto skipped = e["skipped"].get<std::int64_t>();
  std::string text =
      fmt::format("{}: top-1 {:.2f}  top-5 {:.2f}  loss {:.4f}  {} images{}  {:.0f} images/s\n",
                  e["kind"].get<std::string>(), e["top1"].get<double>(), e["top5"].get<double>(),
                  e["loss"].get<double>(), e["images"].get<std::int64_t>(),
                  skipped > 0 ? fmt::format(" ({} skipped)", skipped) : "", e["images_per_s"].get<double>());
  if (!e.contains("classes")) return text;
  text += fmt::format("{:<28} {:>7} {:>7} {:>7} {:>8}\n", "class", "images", "top-1", "top-5", "loss");
  for (const json& row : e["classes"])
    text += fmt::format("{:<28} {:>7} {:>7.2f} {:>7.2f} {:>8.4f}\n", row["class"].get<std::string>(),
                        row["images"].get<std::int64_t>(), row["top1"].get<double>(),
                        row["top5"].get<double>(), row["loss"].get<double>());
  return text;
}

json predict(const Network& network, const TrainOptions& options, const std::vector<std::string>& files,
             const Names& names) {
  const int side = options.val_crop_size;
  json rows = json::array();
  for (const std::string& file : files) {
    const Image image = transform_for_evaluation(load_image(file, options.in_channels),
                                                 {Augmentation::none, side, options.val_resize_size});
    const Tensor logits =
        network.forward(Tensor::from<std::uint8_t>({1, side, side, options.in_channels}, image.pixels));
    const auto z = logits.span<float>();
    std::vector<std::size_t> ranked(z.size());
    std::iota(ranked.begin(), ranked.end(), std::size_t{0});
    std::ranges::stable_sort(ranked, [&](std::size_t i, std::size_t k) { return z[i] > z[k]; });
    // The loss of a class is −log of its probability; others differ from it as their logits do.
    const auto likeliest = static_cast<std::int32_t>(ranked[0]);
    const double loss = kernels::cross_entropy(logits, {&likeliest, 1}, 0.0f).loss;
    json best = json::array();
    for (std::size_t i = 0; i < std::min<std::size_t>(5, ranked.size()); ++i)
      best.push_back({{"class", names.of(ranked[i])},
                      {"index", ranked[i]},
                      {"probability", std::exp(static_cast<double>(z[ranked[i]]) - z[ranked[0]] - loss)}});
    rows.push_back({{"file", file}, {"top5", best}});
  }
  return {{"kind", network.kind}, {"predictions", rows}};
}

std::string predictions_text(const json& result) {
  std::string text;
  for (const json& row : result["predictions"]) {
    text += row["file"].get<std::string>() + ":";
    for (const json& guess : row["top5"])
      text += fmt::format("  {} {:.1f} %", guess["class"].get<std::string>(),
                          100 * guess["probability"].get<double>());
    text += "\n";
  }
  return text;
}

// For images of options.val_crop_size.
json export_integer_network(const Network& network, const TrainOptions& options, const std::string& file) {
  check(network.quantized, ErrorKind::usage, "--export: ", options.weights,
        ": expected a quantized checkpoint, found ", network.kind);
  std::error_code none;  // two files of which one is not there yet are not the same
  check(!std::filesystem::equivalent(file, options.weights, none), ErrorKind::usage, "--export ", file,
        ": that is the checkpoint itself");
  const auto compiled = compile(*network.trained, preprocessing_of(options, network.class_names));
  compiled.save(file, integer_network_record(options, network.epoch));
  return {{"kind", network.kind},
          {"model", network.model},
          {"epoch", network.epoch},
          {"file", file},
          {"bytes", std::filesystem::file_size(file)},
          {"input", {compiled.height(), compiled.width(), compiled.channels()}}};
}

std::string export_text(const json& e) {
  return fmt::format("{}: {} after epoch {}, as an integer network for images of {}x{} ({} bytes)\n",
                     e["file"].get<std::string>(), e["kind"].get<std::string>(), e["epoch"].get<int>(),
                     e["input"][0].get<int>(), e["input"][1].get<int>(), e["bytes"].get<std::uint64_t>());
}

json comparison_json(const Network& a, const Network& b, const Comparison& c) {
  json layers = json::array();
  for (const auto& layer : c.layers)
    layers.push_back({{"name", layer.name}, {"difference", layer.difference}});
  return {{"kind", a.kind},
          {"other", b.kind},
          {"images", c.images},
          {"agreement", 100.0 * static_cast<double>(c.agreeing) / static_cast<double>(c.images)},
          {"first_diverging_layer", c.first_diverging},
          {"layers", layers}};
}

std::string comparison_text(const json& c) {
  std::string text = fmt::format("{} and {} agree on {:.2f} % of {} images\n", c["kind"].get<std::string>(),
                                 c["other"].get<std::string>(), c["agreement"].get<double>(),
                                 c["images"].get<std::int64_t>());
  const auto first = c["first_diverging_layer"].get<std::string>();
  text += first.empty() ? "no layer differs in a bit\n" : "the first layer that differs: " + first + "\n";
  for (const json& row : c["layers"])
    text +=
        fmt::format("{:<40} {:>12.3e}\n", row["name"].get<std::string>(), row["difference"].get<double>());
  return text;
}

// ---

// Before the work, which may take hours.
void make_output_folder(const std::string& folder) {
  std::error_code error;
  if (!folder.empty()) std::filesystem::create_directories(folder, error);
  check(!error, ErrorKind::io, "creating the output folder ", folder, ": ", error.message());
}

int report(const Analysis& analysis, const cxxopts::ParseResult& parsed, const std::string& folder) {
  if (parsed.count("json"))
    cli::print_json(analysis.result);
  else
    cli::print_result(analysis.table);
  if (!folder.empty()) save(analysis, folder, cli::text_of(parsed, "analyze"));
  return 0;
}

// Those that open weights and data for themselves.
int analyze(const cxxopts::ParseResult& parsed, TrainOptions options, const std::string& command,
            bool quiet) {
  const auto kind = cli::text_of(parsed, "analyze");
  const bool of_run = kind == "sensitivity" || kind == "bits";
  if (of_run) {
    check(parsed.count("config"), ErrorKind::usage, "--analyze ", kind,
          " wants --config, the config.json of a run");
    const std::string folder = options.output_dir;
    options = cli::options_from(cli::text_of(parsed, "config"), cli::given_settings(parsed, eval_options()));
    options.output_dir = folder;
  }
  make_output_folder(options.output_dir);
  Analysis analysis;
  if (kind == "cosine") {
    check(
        !options.weights.empty() && parsed.count("baseline"), ErrorKind::usage,
        "--analyze cosine wants --weights, the quantized network, and --baseline, the weights it came from");
    check(!parsed.count("model"), ErrorKind::usage, "--model has no effect with --analyze cosine");
    analysis = analyze_cosine(options, cli::text_of(parsed, "baseline"));
  } else if (kind == "gradient-noise") {
    ProgressDisplay display(quiet);
    analysis = analyze_gradient_noise(options, parsed.count("model") > 0, cli::count_of(parsed, "batches", 2),
                                      cli::counts_of(parsed, "batch-sizes", 1, 1'000'000), display);
  } else {
    Metrics metrics;
    ProgressDisplay display(quiet);
    const RunContext context{
        .command = command, .listeners = {&metrics, &display}, .stop = install_stop_handlers()};
    analysis = kind == "bits" ? analyze_bits(options, context) : analyze_sensitivity(options, context);
  }
  return report(analysis, parsed, options.output_dir);
}

// What can be asked for instead of an evaluation, one at a time; --analyze, too, of several kinds.
constexpr const char* modes[] = {"per-class", "compare", "predict", "export"};

// What is done, and the options that it alone reads, or does not read. Whoever gives one expects an effect.
struct Task {
  const char* name;
  std::vector<std::string> own = {};
  std::vector<std::string> ignored = {};
};

const Task& task_of(const cxxopts::ParseResult& parsed) {
  static const std::vector<std::string> pixels{"val-resize-size", "val-crop-size", "mean", "std"};
  static const Task tasks[] = {
      {"an evaluation"},
      {"--per-class", {"class-names"}},
      {"--compare"},
      {"--predict", {"class-names"}, {"split", "data-path", "dataset", "batch-size", "workers", "skip-bad"}},
      {"--export", {}, {"split", "data-path", "dataset", "batch-size", "workers", "skip-bad", "engine"}},
      {"--analyze cosine",
       {"output-dir", "baseline"},
       {"split", "data-path", "dataset", "batch-size", "workers", "skip-bad", "val-resize-size",
        "val-crop-size", "mean", "std", "num-classes", "in-channels", "engine", "use-ema"}},
      {"--analyze gradient-noise",
       {"output-dir", "batches", "batch-sizes"},
       {"split", "batch-size", "val-resize-size", "val-crop-size", "use-ema"}},
      {"--analyze sensitivity", {"output-dir", "config"}, {"split", "use-ema"}},
      {"--analyze bits", {"output-dir", "config"}, {"split", "use-ema"}},
      {"--analyze weight-steps", {"output-dir"}},
  };
  std::string name = "an evaluation";
  for (const char* mode : modes)
    if (parsed.count(mode)) name = concat("--", mode);
  if (parsed.count("analyze")) name = "--analyze " + cli::text_of(parsed, "analyze");
  const auto found = std::ranges::find(tasks, name, &Task::name);
  check(found != std::end(tasks), ErrorKind::usage, name,
        ": expected one of cosine, gradient-noise, sensitivity, bits, weight-steps");
  return *found;
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
}

int body(int argc, char** argv) {
  cxxopts::Options parser("faq-eval",
                          "Evaluates an integer network, a checkpoint or float weights on a data set.");
  const std::vector<OptionRow> rows = eval_options();
  cli::add_options(parser, rows);
  cli::add_options(
      parser, "run",
      {{"split", "train or val", "SPLIT", "val"},
       {"per-class", "accuracy and loss of every class"},
       {.names = "predict",
        .help = "the five likeliest classes of these images",
        .value = "IMAGE…",
        .repeatable = true},
       {"compare", "another network on the same images: agreement, and layer by layer", "FILE"},
       {"use-ema",
        "of a checkpoint: the moving average of its run (--model-ema), not the network in training"},
       {"export", "write the integer network of a quantized checkpoint", "FILE"},
       {"class-names", "lines of names in class order, or of FOLDER<tab>NAME", "FILE"},
       {"analyze",
        "cosine, gradient-noise, sensitivity, bits or weight-steps: a table, and in --output-dir JSON and a "
        "figure",
        "WHAT"},
       {"baseline", "--analyze cosine: the weights before", "FILE"},
       {"batches", "--analyze gradient-noise: of every size", "N", "50"},
       {"batch-sizes", "--analyze gradient-noise: images per batch", "N,…", "32,128,512"},
       {"c,config", "--analyze sensitivity and bits: the config.json of a run", "FILE"},
       {"quiet", "no progress on stderr"}});
  // Arguments without a name are images, when images are asked for.
  const bool predicting = std::any_of(argv + 1, argv + argc, [](const char* argument) {
    return std::string_view(argument).starts_with("--predict");
  });
  const auto parsed = cli::parse(parser, argc, argv, predicting ? "predict" : "");
  if (cli::help_or_version(parser, parsed)) return 0;

  TrainOptions options = assemble(json::object(), cli::given_settings(parsed, rows));
  const std::string split = cli::text_of(parsed, "split");
  check(split == "val" || split == "train", ErrorKind::usage, "--split ", split, ": expected train or val");
  std::size_t asked = parsed.count("analyze");
  for (const std::string mode : modes)
    asked += mode == "predict" ? std::min<std::size_t>(parsed.count(mode), 1) : parsed.count(mode);
  check(asked <= 1, ErrorKind::usage,
        "--analyze, --compare, --export, --per-class and --predict: one at a time");
  refuse_without_effect(parsed, rows);
  check_options(options);
  set_num_threads(options.threads);
  const bool quiet = parsed.count("quiet") > 0;
  const bool of_steps = parsed.count("analyze") && cli::text_of(parsed, "analyze") == "weight-steps";
  if (parsed.count("analyze") && !of_steps)
    return analyze(parsed, options, cli::command_line(argc, argv), quiet);
  const bool as_json = parsed.count("json") > 0;
  const auto print = [as_json](const json& result, auto text) {
    if (as_json)
      cli::print_json(result);
    else
      cli::print_result(text(result));
    return 0;
  };
  const bool model_given = parsed.count("model") > 0;
  TrainOptions given = options;
  if (parsed.count("compare")) {
    // A mean that is given is for the one file that has none.
    const bool known = knows_pixels(options.weights),
               known_of_other = knows_pixels(cli::text_of(parsed, "compare"));
    TrainOptions& knowing = known ? options : given;
    if (known != known_of_other) knowing.mean.clear(), knowing.std.clear();
  }
  const Network network =
      open_network(options, {.model_given = model_given, .average = parsed.count("use-ema") > 0});
  check(!model_given || parsed.count("compare") || network.model.empty() || network.model == given.model,
        ErrorKind::usage, "--model ", given.model, ": ", options.weights, " is a ", network.model);
  const auto names_of = [&](const std::vector<std::string>& folders) {
    return Names{parsed.count("class-names")
                     ? named(cli::text_of(parsed, "class-names"), folders, options.num_classes)
                     : folders};
  };
  if (parsed.count("predict") || parsed.count("export"))
    choose_preprocessing(options, [&] { return model_info(options.model).input_size; });
  if (parsed.count("export"))
    return print(export_integer_network(network, options, cli::text_of(parsed, "export")), export_text);
  if (parsed.count("predict")) {
    return print(predict(network, options, parsed["predict"].as<std::vector<std::string>>(),
                         names_of(network.class_names)),
                 predictions_text);
  }

  const int classes = options.num_classes;
  const Data data = open_data(options, split == "train");
  const Dataset& dataset = split == "train" ? *data.train : *data.val;
  check(static_cast<int>(dataset.class_names().size()) == classes, ErrorKind::usage, "data ",
        options.data_path, " has ", dataset.class_names().size(), " classes, the network ", classes);
  // A class the data lacks would shift the numbers of all behind it.
  const auto [known, found] = std::ranges::mismatch(network.class_names, dataset.class_names());
  check(network.class_names.empty() || known == network.class_names.end(), ErrorKind::usage, "data ",
        options.data_path, ": class ", found - dataset.class_names().begin(), " is '",
        found == dataset.class_names().end() ? "" : *found, "', the network's is '",
        known == network.class_names.end() ? "" : *known, "'");
  Loader loader(dataset, val_loader_options(options, data));
  ProgressDisplay display(quiet);
  const auto begin = [&] {  // nothing is refused any more
    for (const std::string& line : threads_text(options.threads)) display.line(line);
  };
  if (parsed.count("compare")) {
    TrainOptions other_options = given;
    other_options.weights = cli::text_of(parsed, "compare");
    const Network other = open_network(other_options, {.model_given = model_given});
    check(
        other_options.num_classes == options.num_classes && other_options.in_channels == options.in_channels,
        ErrorKind::usage, "--compare ", other_options.weights, ": ", other_options.num_classes,
        " classes and ", other_options.in_channels, " channels, the network has ", options.num_classes,
        " and ", options.in_channels);
    begin();
    return print(comparison_json(network, other, compare(network, other, loader, display)), comparison_text);
  }
  if (of_steps) {
    make_output_folder(options.output_dir);
    return report(analyze_weight_scales(options, network, loader, display), parsed, options.output_dir);
  }
  const Names names = names_of(dataset.class_names());
  begin();
  return print(evaluate(network, dataset, loader, display, parsed.count("per-class") ? &names : nullptr),
               evaluation_text);
}

}  // namespace

int main(int argc, char** argv) {
  faq::cli::bound_waiting(argv);
  return faq::cli::run("faq-eval", [&] { return body(argc, argv); });
}
