// faq-eval: the accuracy of a network, integer or float, and what it makes of single images.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <functional>
#include <iostream>

#include "core/parallel.h"
#include "tools/cli.h"
#include "tools/eval_analyses.h"
#include "tools/eval_task.h"
#include "tools/eval_text.h"
#include "tools/network_choice.h"
#include "tools/option_text.h"
#include "tools/waiting.h"
#include "train/confusion.h"
#include "train/evaluate.h"
#include "train/evaluation_data.h"
#include "train/image_sample.h"
#include "train/logit_record.h"
#include "train/option_table.h"
#include "train/progress_display.h"
#include "train/share_cpus.h"

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

void add_eval_options(cli::Parser& parser, const std::vector<OptionRow>& rows) {
  cli::add_options(parser, rows, {{"val-crop-size", "default: the network's"}});
  cli::add_options(
      parser, "run",
      {{.names = "split",
        .help = "train, val or test",
        .value = "SPLIT",
        .preset = "val",
        .choices = {"train", "val", "test"}},
       {"per-class", "accuracy and loss of every class"},
       {"confusion", "how many images of which class are taken for which"},
       {"logits", "also write the logits of every image, safetensors", "FILE"},
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
        "parameter; default: bf16 (f32 where the CPU has none), without a comparison",
        "DTYPE,…"},
       {"c,config", "--analyze sensitivity and bits: the config.json of a run", "FILE"},
       {"quiet", "no progress on stderr, warnings only"}});
}

Split split_named(const std::string& name) {
  for (const auto& [known, split] :
       {std::pair{"train", Split::train}, {"val", Split::val}, {"test", Split::test}})
    if (name == known) return split;
  fail(ErrorKind::usage, "--split ", name, ": expected train, val or test");
}

// What every task works with.
struct Job {
  const cxxopts::ParseResult& parsed;
  const TrainOptions& options;
  const EvalTask& task;
  Communicator& ranks;  // those that share the task
  bool is_first;        // of all ranks
  const CpuShare& cpus;
  ProgressDisplay::Says says;

  bool has(const char* option) const { return parsed.count(option) > 0; }
  void print(const json& result, auto text) const {
    if (cli::is_on(parsed, "json"))
      cli::print_json(result);
    else
      cli::print_result(text(result));
  }
  ProgressDisplay display() const {
    return ProgressDisplay(is_first ? says : ProgressDisplay::Says::nothing, cli::with_options);
  }
  ClassNames names_of(const std::vector<std::string>& folders, const Network& network) const {
    return has("class-names")
               ? read_class_names(cli::text_of(parsed, "class-names"), folders, network.num_classes)
               : ClassNames{folders};
  }
  Preprocessing preprocessing(const Network& network) const {
    return preprocessing_for(network, options, [&] { return model_info(network.model).input_size; });
  }
  EvaluationData data_for(const Network& network) const {
    return open_evaluation_data(network, options, options.batch_size,
                                split_named(cli::text_of(parsed, "split")), ranks);
  }
  // Nothing is refused any more.
  void begin(const EvaluationData& data, ProgressDisplay& display) const {
    for (const std::string& line : cpus.lines) display.line(line);
    for (const std::string& note : data.notes) tell(display, note);
  }
};

void say_notes(const Job& job, const Network& network) {
  ProgressDisplay display = job.display();
  for (const std::string& note : network.notes) display.line(note);
}

// Plain weights do not name their classes: a file does, for data that have some of them only.
void name_classes(const Job& job, Network& network) {
  if (!job.options.allow_empty_classes || !job.has("class-names") || job.has("predict")) return;
  std::vector<std::string>& known = network.preprocessing.class_names;
  check(known.empty() || !job.task.names_are_matched, ErrorKind::usage,
        "--class-names has no effect: ", network.weights, " names its classes");
  if (known.empty()) known = read_class_folders(cli::text_of(job.parsed, "class-names"), network.num_classes);
}

Network opened(const Job& job, const NetworkChoice& choice) {
  Network network = open_network(choice);
  name_classes(job, network);
  say_notes(job, network);
  return network;
}

void write_integer_network(const Job& job, const Network& network) {
  const std::string file = cli::text_of(job.parsed, "export");
  job.print(export_json(network, export_integer_network(network, job.preprocessing(network), file), file),
            export_text);
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

// Images that can be read are predicted; then the others end the program.
void predict_images(const Job& job, const Network& network) {
  const ClassNames names = job.names_of(network.preprocessing.class_names, network);
  const Preprocessing seen = job.preprocessing(network);
  json result{{"kind", network.kind}, {"predictions", json::array()}};
  const std::vector<std::string> files = files_of(job.parsed["predict"].as<std::vector<std::string>>());
  if (const ImageSample sample = sample_of(files, seen.channels); sample.images > 0) {
    DataChoice done = job.options;
    done.val_crop_size = seen.height;
    done.val_resize_size = seen.resize;
    done.interpolation = seen.interpolation;
    job.display().line(text_of_preprocessing(sample, done, Split::val));
  }
  std::vector<Error> unread;
  for (const std::string& file : files) {
    try {
      result["predictions"].push_back(prediction_json(file, predict(network, seen, file), names));
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::bad_data && error.kind() != ErrorKind::missing_input) throw;
      unread.push_back(error);
    }
  }
  if (!result["predictions"].empty()) job.print(result, predictions_text);
  if (unread.size() > 1)
    fail(unread.front().kind(), unread.front().what(), "; ", unread.size() - 1,
         " more images cannot be used");
  if (!unread.empty()) throw unread.front();
}

// The network that is compared, and the one that it is compared with.
std::pair<NetworkChoice, NetworkChoice> compared(const Job& job, const NetworkChoice& choice) {
  std::pair both{choice, choice};
  both.second.weights = cli::text_of(job.parsed, "compare");
  both.second.average = false;
  // What plain weights need said is not said of the other file, which says it itself.
  const bool known = describes_itself(both.first.weights),
             known_of_other = describes_itself(both.second.weights);
  NetworkChoice& knowing = known ? both.first : both.second;
  if (known != known_of_other) knowing.model.clear(), knowing.mean.clear(), knowing.std.clear();
  return both;
}

void compare_networks(const Job& job, const Network& network, const NetworkChoice& other_choice) {
  const EvaluationData data = job.data_for(network);
  ProgressDisplay display = job.display();
  const Network other = open_network(other_choice);
  say_notes(job, other);
  check_classes(other, data.dataset->class_names(), concat("data ", job.options.data_path));
  check(other.num_classes == network.num_classes &&
            other.preprocessing.channels == network.preprocessing.channels,
        ErrorKind::usage, "--compare ", other.weights, ": ", other.num_classes, " classes and ",
        other.preprocessing.channels, " channels, the network has ", network.num_classes, " and ",
        network.preprocessing.channels);
  preprocessing_for(other, job.options, [&] { return network.preprocessing.height; });  // or it is refused
  job.begin(data, display);
  job.print(comparison_json(network, other, compare(network, other, *data.loader, display)), comparison_text);
}

void score_weight_scales(const Job& job, const Network& network) {
  const EvaluationData data = job.data_for(network);
  ProgressDisplay display = job.display();
  make_output_folder(job.options.output_dir);
  report_analysis(show(weight_scale_scores(network, *data.loader, display), job.options.weights), job.parsed,
                  job.options.output_dir);
}

// One process alone, which shows each batch to `body`, too.
Evaluation evaluate_showing(const Network& network, Loader& loader, Scores& scores,
                            const std::function<void(const Batch&, const Tensor& logits)>& body,
                            RunListener& listener) {
  const double seconds = for_each_batch(
      network.forward, loader,
      [&](const Batch& batch, const Tensor& logits) {
        scores.add(logits, batch.labels);
        body(batch, logits);
      },
      listener, [&] { return fmt::format("top-1 {:.2f}", scores.result().top1); });
  Evaluation result = scores.result();
  result.images_per_s = static_cast<double>(result.images) / seconds;
  return result;
}

void evaluate_network(const Job& job, const Network& network) {
  const EvaluationData data = job.data_for(network);
  ProgressDisplay display = job.display();
  const std::vector<std::string>& classes = data.dataset->class_names();
  const ClassNames names = job.names_of(classes, network);
  job.begin(data, display);
  const bool counts = cli::is_on(job.parsed, "confusion");
  const std::string logits_file = job.has("logits") ? cli::text_of(job.parsed, "logits") : "";
  if (!logits_file.empty()) check_may_hold_logits(logits_file);  // now, and not at the end
  Scores scores;
  Confusion confusion;
  LogitRecord record(logits_file.empty() ? 0 : data.dataset->size());
  const auto show = [&](const Batch& batch, const Tensor& logits) {
    if (counts) confusion.add(logits, batch.labels);
    if (!logits_file.empty()) record.add(batch, logits);
  };
  const Evaluation evaluation = counts || !logits_file.empty()
                                    ? evaluate_showing(network, *data.loader, scores, show, display)
                                    : evaluate(network.forward, *data.loader, scores, display, {}, job.ranks);
  check_agreed(std::isfinite(evaluation.loss), ErrorKind::bad_data, network.weights,
               ": the loss of an image is beyond 2^32: the logits are no logits");
  const auto faulty_here = static_cast<std::int64_t>(data.loader->faulty_samples().size());
  const auto images = job.ranks.start_sum({data.loader->skipped(), faulty_here}).get();
  const std::int64_t skipped = images[0], faulty = images[1];
  check_agreed(skipped <= job.options.skip_bad, ErrorKind::bad_data, skipped,
               " images cannot be used, `skip_bad` ", job.options.skip_bad);
  if (!logits_file.empty()) {
    const std::vector<std::string>& known = network.preprocessing.class_names;
    write_safetensors(logits_file, record.contents(*data.dataset, known.empty() ? classes : known));
  }
  json result = evaluation_json(network, evaluation, skipped, faulty);
  if (cli::is_on(job.parsed, "per-class")) result["classes"] = per_class_json(scores, names, classes.size());
  if (counts) result["confusion"] = confusion_json(confusion, names, classes.size());
  job.print(result, evaluation_text);
}

void do_task(const Job& job) {
  const NetworkChoice choice = cli::network_choice(job.parsed, job.options);
  if (job.has("compare")) {
    const auto [one, other] = compared(job, choice);
    return compare_networks(job, opened(job, one), other);
  }
  const Network network = opened(job, choice);
  if (job.has("export")) return write_integer_network(job, network);
  if (job.has("predict")) return predict_images(job, network);
  if (job.has("analyze")) return score_weight_scales(job, network);
  evaluate_network(job, network);
}

int body(int argc, char** argv, Communicator& all) {
  cli::Parser parser("faq-eval",
                     "Evaluates an integer network, a checkpoint or float weights on a data set.");
  const std::vector<OptionRow> rows = eval_options();
  add_eval_options(parser, rows);
  // Arguments without a name are images, when images are asked for.
  const bool predicting = std::any_of(argv + 1, argv + argc, [](const char* argument) {
    return std::string_view(argument).starts_with("--predict");
  });
  const auto parsed = cli::parse(parser, argc, argv, predicting ? "predict" : "");
  if (cli::help_or_version(parser, parsed)) return 0;

  const TrainOptions options = assemble(json::object(), cli::given_settings(parsed, rows));
  split_named(cli::text_of(parsed, "split"));  // or it is refused
  const EvalTask& task = eval_task(parsed, rows);
  check_options(options);
  all.set_lost_after(options.rank_timeout);
  if (!task.is_shared && !all.is_first()) return 0;
  if (!task.is_shared) cli::say_one_rank_works(task.name, all);
  Communicator& ranks = task.is_shared ? all : single_process();
  const CpuShare cpus = share_cpus(ranks, options.threads);
  const ProgressDisplay::Says says = cli::says(parsed);
  if (parsed.count("analyze") && cli::text_of(parsed, "analyze") != "weight-scales")
    run_analysis(parsed, options, rows, cli::command_line(argc, argv), says);
  else
    do_task({parsed, options, task, ranks, all.is_first(), cpus, says});
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  faq::cli::bound_waiting(argv);
  return faq::cli::run_on_ranks("faq-eval",
                                [&](faq::Communicator& ranks) { return body(argc, argv, ranks); });
}
