#include "train/options.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <numeric>

#include "core/choices.h"
#include "core/text.h"

namespace faq {
namespace {

using T = TrainOptions;

const Choices<Schedule> schedules{{"constant", Schedule::constant},
                                  {"exponential", Schedule::exponential},
                                  {"step", Schedule::step},
                                  {"cosine", Schedule::cosine}};
const Choices<DatasetKind> dataset_kinds{{"auto", DatasetKind::automatic},
                                         {"imagefolder", DatasetKind::image_folder},
                                         {"idx", DatasetKind::idx},
                                         {"cifar", DatasetKind::cifar},
                                         {"tar", DatasetKind::tar}};
const Choices<Distill> distillations{
    {"none", Distill::none}, {"joint", Distill::joint}, {"frozen", Distill::frozen}};
const Choices<Augmentation> augmentations{
    {"none", Augmentation::none}, {"cifar", Augmentation::cifar}, {"imagenet", Augmentation::imagenet}};

// The recipes of method.md, section 1. fp32: the recipe of He et al. 2016, section 4.2, annealed by a cosine.
const std::vector<std::pair<std::string, std::vector<Setting>>>& presets() {
  static const std::vector<std::pair<std::string, std::vector<Setting>>> rows{
      {"fp32",
       {{"scheme", "none"},
        {"epochs", "160"},
        {"batch-size", "128"},
        {"lr", "0.1"},
        {"lr-scheduler", "cosine"},
        {"weight-decay", "1e-4"}}},
      {"faq-8bit",
       {{"scheme", "faq"},
        {"bits", "8"},
        {"calibration", "percentile"},
        {"epochs", "1"},
        {"batch-size", "256"},
        {"lr", "1e-4"},
        {"lr-scheduler", "constant"},
        {"weight-decay", "1e-4"}}},
      {"faq-4bit",
       {{"scheme", "faq"},
        {"bits", "4"},
        {"calibration", "mse"},
        {"epochs", "110"},
        {"batch-size", "256"},
        {"lr", "0.0015"},
        {"lr-scheduler", "exponential"},
        {"lr-gamma", "0.936"},
        {"weight-decay", "5e-5"}}},
      {"dfp-ternary",
       {{"scheme", "dfp"},
        {"weight-bits", "2"},
        {"act-bits", "8"},
        {"cluster-size", "4"},
        {"calibration", "percentile"},
        {"epochs", "4"},
        {"batch-size", "256"},
        {"lr", "0.01"},
        {"lr-scheduler", "cosine"},
        {"weight-decay", "1e-4"}}},
  };
  return rows;
}

template <class Number>
Number parse_number(const Setting& setting) {
  Number value{};
  const auto& [name, text] = setting;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  check(error == std::errc() && end == text.data() + text.size(), ErrorKind::usage, "--", name, " '", text,
        "': expected ", std::is_integral_v<Number> ? "an integer" : "a number");
  if constexpr (std::is_floating_point_v<Number>) {
    check(std::isfinite(value), ErrorKind::usage, "--", name, " '", text, "': expected a finite number");
  }
  return value;
}

template <class Number>
std::vector<Number> parse_list(const Setting& setting) {
  std::vector<Number> values;
  for (const std::string& part : split(setting.second))
    values.push_back(parse_number<Number>({setting.first, part}));
  return values;
}

// One name that sets several options, in config files as on the command line; what is more specific wins.
const std::vector<std::pair<std::string, std::vector<std::string>>> shorthands{
    {"bits", {"weight-bits", "act-bits"}}};

const std::vector<std::string>* options_of_shorthand(const std::string& name) {
  for (const auto& [shorthand, options] : shorthands) {
    if (shorthand == name) return &options;
  }
  return nullptr;
}

void in_range(const char* name, double value, double low, double high) {
  check(value >= low && value <= high, ErrorKind::usage, "--", name, " ", value, ": expected ", low, " to ",
        high);
}

std::string text_of(const nlohmann::json& value) {
  return value.is_string() ? value.get<std::string>() : value.dump();
}

bool told(const std::vector<Setting>& settings, const std::string& name) {
  return std::ranges::any_of(settings, [&](const Setting& setting) { return setting.first == name; });
}

int sum(const std::vector<int>& epochs) {
  const auto all = std::accumulate(epochs.begin(), epochs.end(), std::int64_t{0});
  return static_cast<int>(std::clamp<std::int64_t>(all, 0, std::numeric_limits<int>::max()));
}

// A config file's entries as settings; lists become one setting per element (text) or a comma-separated one
// (numbers).
std::vector<Setting> settings_of(const nlohmann::json& config) {
  std::vector<Setting> settings;
  for (const auto& [name, value] : config.items()) {
    const auto* several = options_of_shorthand(name);
    const OptionRow& row = find_option(several ? several->front() : name);
    const bool text_list = std::holds_alternative<std::vector<std::string> T::*>(row.member);
    check(!value.is_object() && !value.is_null() && (!value.is_array() || row.member.index() >= 3),
          ErrorKind::usage, "'", name, "' has a value of the wrong kind: ", value.dump());
    if (text_list) {
      for (const auto& element : value) settings.emplace_back(name, text_of(element));
    } else if (value.is_array()) {
      std::vector<std::string> parts;
      for (const auto& element : value) parts.push_back(text_of(element));
      if (!parts.empty()) settings.emplace_back(name, join(parts, ","));
    } else {
      settings.emplace(several ? settings.begin() : settings.end(), name, text_of(value));
    }
  }
  return settings;
}

}  // namespace

const std::vector<OptionRow>& option_table() {
  static const std::vector<OptionRow> table{
      {{"model"}, "model", "NAME", "network (see --list-models)", &T::model},
      {{"weights"}, "model", "FILE", "pretrained weights, safetensors with torchvision's names", &T::weights},
      {{"num-classes"}, "model", "N", "classes; default: those of the data", &T::num_classes},
      {{"in-channels"},
       "model",
       "N",
       "1 or 3; default: those of the weights, else of the data",
       &T::in_channels},

      {{"preset"},
       "quantization",
       "NAME",
       "fp32, faq-8bit, faq-4bit or dfp-ternary: a recipe, each part of which other options override",
       &T::preset},
      {{"scheme"}, "quantization", "NAME", "none, faq, dfp or dorefa", &T::scheme},
      {{"weight-bits"}, "quantization", "B", "2 to 8 (--bits B sets both)", &T::weight_bits},
      {{"act-bits"}, "quantization", "B", "2 to 8", &T::act_bits},
      {{"first-last-bits"}, "quantization", "B", "bits of the first and the last layer", &T::first_last_bits},
      {{"layer-bits"},
       "quantization",
       "PATTERN=W,A",
       "bits of the layers whose name matches; repeatable, the last match wins",
       &T::layer_bits},
      {{"calibration"}, "quantization", "HOW", "percentile, max or mse", &T::calibration},
      {{"calibration-percentile"},
       "quantization",
       "P",
       "0: 99.99 above 6 bits, else 99.9",
       &T::calibration_percentile},
      {{"calibration-batches"},
       "quantization",
       "N",
       "training batches used for calibration",
       &T::calibration_batches},
      {{"weight-step"}, "quantization", "HOW", "mse or max", &T::weight_scale},
      {{"hold-weight-steps"},
       "quantization",
       "SHARE",
       "steps of fixed-point weights follow the weights until this share of a phase is over, then stay; 0: "
       "they stay from its start, 1: they always follow",
       &T::hold_weight_scales},
      {{"equalize"},
       "quantization",
       "WHAT",
       "channels: before quantizing, scale each output channel to the layer's step (batch-norm takes it "
       "back), the default of faq; or none",
       &T::equalize},
      {{"cluster-size"}, "quantization", "N|all", "dfp: input channels that share a scale", &T::cluster_size},
      {{"ternary-scale"},
       "quantization",
       "FORM",
       "dfp: rms or least-squares, of the weights that are not 0",
       &T::ternary_scale},
      {{"batch-norm-batches"},
       "quantization",
       "N",
       "training batches over which batch-norm's statistics are taken anew after quantizing and before "
       "evaluating; default: dfp as many as calibration, others 0",
       &T::batch_norm_batches},
      {{"stages"},
       "methods",
       "STAGES",
       "both, or weights,both: first the weights alone are quantized, then the activations, too",
       &T::stages},
      {{"bits-schedule"},
       "methods",
       "B,…",
       "widths of weights and activations (W/A: each its own) to train at one after the other",
       &T::bits_schedule},
      {{"phase-epochs"},
       "methods",
       "N,…",
       "epochs of each phase (stage, width), in all those of the run; default: equal shares of --epochs",
       &T::phase_epochs},
      {{"stochastic-precision"},
       "methods",
       "R",
       "units train quantized with a probability that rises from R (alone: 0.5) to 1",
       &T::stochastic_precision,
       "0.5"},
      {{"stochastic-tail"},
       "methods",
       "X",
       "share of a phase, at its end, in which all are quantized",
       &T::stochastic_tail},
      {{"distill"},
       "methods",
       "HOW",
       "none, joint or frozen: learn from a full-precision teacher",
       &T::distill},
      {{"teacher"}, "methods", "FILE", "weights or checkpoint; default: --weights", &T::teacher},
      {{"teacher-model"},
       "methods",
       "NAME",
       "network of --teacher; default: its checkpoint's, else --model",
       &T::teacher_model},
      {{"distill-weight"}, "methods", "X", "of the divergence from the teacher", &T::distill_weight},
      {{"engine"}, "quantization", "NAME", "integer or simulated", &T::engine},
      {{"grad-dtype"},
       "quantization",
       "DTYPE",
       "bf16 or f32; default: bf16 where the CPU has it natively, f32 with --scheme none",
       &T::grad_dtype},

      {{"epochs"}, "training", "N", "0: calibrate and quantize only", &T::epochs},
      {{"batch-size", "b"}, "training", "N", "images per step of each accumulation", &T::batch_size},
      {{"grad-accum-steps"}, "training", "N", "batches per optimizer step", &T::grad_accum_steps},
      {{"lr"}, "training", "X", "initial learning rate", &T::lr},
      {{"lr-scheduler"}, "training", "NAME", "constant, exponential, step or cosine", &T::lr_scheduler},
      {{"lr-gamma"}, "training", "X", "factor per epoch (exponential) or step", &T::lr_gamma},
      {{"lr-step-size"}, "training", "N", "epochs per step", &T::lr_step_size},
      {{"lr-warmup-epochs"}, "training", "X", "linear warm-up", &T::lr_warmup_epochs},
      {{"momentum"}, "training", "X", "of SGD", &T::momentum},
      {{"weight-decay", "wd"}, "training", "X", "of every parameter", &T::weight_decay},
      {{"label-smoothing"},
       "training",
       "X",
       "share of the target that all classes have alike",
       &T::label_smoothing},
      {{"clip-grad-norm"}, "training", "X", "0: no clipping", &T::clip_grad_norm},
      {{"model-ema"},
       "training",
       "DECAY",
       "validate, keep and deploy a moving average of the weights (alone: 0.9998)",
       &T::model_ema,
       "0.9998"},
      {{"seed"}, "training", "N", "of everything that is random", &T::seed},

      {{"data-path", "data-dir"},
       "data",
       "DIR",
       "folder with train/ and val/ (or test/), IDX or CIFAR files",
       &T::data_path},
      {{"dataset"}, "data", "KIND", "auto, imagefolder, idx, cifar or tar", &T::dataset},
      {{"shuffle-buffer"},
       "data",
       "N",
       "samples of tar shards that are shuffled at a time",
       &T::shuffle_buffer},
      {{"workers", "j"}, "data", "N", "threads that prepare batches", &T::workers},
      {{"train-crop-size"}, "data", "N", "default: the size the network is for", &T::train_crop_size},
      {{"val-resize-size"},
       "data",
       "N",
       "shorter side before the centre crop; 0: no resizing; default: the network's",
       &T::val_resize_size},
      {{"val-crop-size"}, "data", "N", "default: as --train-crop-size", &T::val_crop_size},
      {{"augment"},
       "data",
       "NAME",
       "cifar (pad, random crop, flip), imagenet (random resized crop, flip) or none; default: the network's",
       &T::augment},
      {{"mean"},
       "data",
       "M,…",
       "per channel, pixels in [0, 1]; default: the checkpoint's in --weights, else the network's",
       &T::mean},
      {{"std"}, "data", "S,…", "per channel, pixels in [0, 1]; default: as --mean", &T::std},
      {{"skip-bad"}, "data", "N", "skip up to N images that cannot be opened or decoded", &T::skip_bad},

      {{"output-dir", "output"}, "run", "DIR", "checkpoints, metrics, the integer network", &T::output_dir},
      {{"resume"},
       "run",
       "auto|FILE",
       "continue from the newest checkpoint of the output folder, or from FILE",
       &T::resume},
      {{"checkpoint-interval"}, "run", "STEPS", "0: at the end of every epoch only", &T::checkpoint_interval},
      {{"checkpoint-hist"}, "run", "K", "checkpoints kept besides last and best", &T::checkpoint_hist},
      {{"threads"}, "run", "N", "default: OMP_NUM_THREADS, without it all cores", &T::threads},
      {{"print-freq"}, "run", "STEPS", "between lines and metrics", &T::print_freq},
  };
  return table;
}

const OptionRow& find_option(const std::string& name) {
  std::vector<std::string> names;
  for (const auto& [shorthand, options] : shorthands) names.push_back(shorthand);
  for (const OptionRow& row : option_table()) {
    for (const std::string& candidate : row.names) {
      if (candidate == name) return row;
      names.push_back(candidate);
    }
  }
  fail(ErrorKind::usage, "unknown option '", name, "'; did you mean '", nearest(name, names), "'?");
}

void apply(TrainOptions& options, const Setting& setting) {
  if (const auto* several = options_of_shorthand(setting.first)) {
    for (const std::string& name : *several) apply(options, {name, setting.second});
    return;
  }
  const OptionRow& row = find_option(setting.first);
  std::visit(
      [&](auto member) {
        using Value = std::remove_reference_t<decltype(options.*member)>;
        if constexpr (std::is_arithmetic_v<Value>) {
          options.*member = parse_number<Value>(setting);
        } else if constexpr (std::is_same_v<Value, std::string>) {
          options.*member = setting.second;
        } else if constexpr (std::is_same_v<Value, std::vector<std::string>>) {
          (options.*member).push_back(setting.second);
        } else {
          options.*member = parse_list<typename Value::value_type>(setting);
        }
      },
      row.member);
}

const std::vector<Setting>& preset(const std::string& name) {
  std::vector<std::string> names;
  for (const auto& [candidate, settings] : presets()) {
    if (candidate == name) return settings;
    names.push_back(candidate);
  }
  fail(ErrorKind::usage, "unknown preset '", name, "'; did you mean '", nearest(name, names),
       "'? (have: ", join(names), ")");
}

TrainOptions assemble(const nlohmann::json& config, const std::vector<Setting>& settings,
                      const std::string& source) {
  check(config.is_object() || config.is_null(), ErrorKind::usage, source, ": expected a JSON object");
  TrainOptions options;
  const auto apply_all = [&](const std::vector<Setting>& list, bool with_preset) {
    for (const Setting& setting : list)
      if (with_preset && setting.first == "preset" && !setting.second.empty())
        for (const Setting& part : preset(setting.second)) apply(options, part);
    for (const Setting& setting : list) apply(options, setting);
  };
  std::vector<Setting> from_config;
  try {
    from_config = settings_of(config);
    // A preset of the settings is one of them: it wins over the whole config file, and replaces its preset.
    apply_all(from_config, !told(settings, "preset"));
  } catch (const Error& error) {
    fail(error.kind(), source, ": ", error.what());
  }
  if (told(settings, "preset")) options.phase_epochs.clear();  // it has epochs of its own
  apply_all(settings, true);
  // The phases say how long the run is, unless that is said as specifically.
  const bool phases_told = told(settings, "phase-epochs");
  const bool epochs_told = told(settings, "epochs") || (!phases_told && told(from_config, "epochs"));
  if (!options.phase_epochs.empty() && !epochs_told) options.epochs = sum(options.phase_epochs);
  return options;
}

nlohmann::json to_json(const TrainOptions& options) {
  nlohmann::json json = nlohmann::json::object();
  for (const OptionRow& row : option_table()) {
    std::visit([&](auto member) { json[row.names.front()] = options.*member; }, row.member);
  }
  return json;
}

DatasetKind parse_dataset_kind(const std::string& text) { return choose("dataset", text, dataset_kinds); }

ResolvedOptions resolve(const TrainOptions& o) {
  in_range("weight-bits", o.weight_bits, 2, 8);
  in_range("act-bits", o.act_bits, 2, 8);
  in_range("first-last-bits", o.first_last_bits, 2, 8);
  in_range("calibration-percentile", o.calibration_percentile, 0, 100);
  in_range("calibration-batches", o.calibration_batches, 1, 1e6);
  in_range("batch-norm-batches", o.batch_norm_batches, -1, 1e6);
  in_range("stochastic-precision", o.stochastic_precision, 0, 1);
  in_range("stochastic-tail", o.stochastic_tail, 0, 1);
  in_range("hold-weight-steps", o.hold_weight_scales, 0, 1);
  in_range("distill-weight", o.distill_weight, 0, 1e6);
  in_range("epochs", o.epochs, 0, 1e6);
  in_range("batch-size", o.batch_size, 1, 1e6);
  in_range("grad-accum-steps", o.grad_accum_steps, 1, 1e6);
  in_range("lr", o.lr, 0, 1e6);
  in_range("lr-gamma", o.lr_gamma, 0, 1e6);
  in_range("lr-step-size", o.lr_step_size, 1, 1e6);
  in_range("lr-warmup-epochs", o.lr_warmup_epochs, 0, 1e6);
  in_range("momentum", o.momentum, 0, 1);
  in_range("weight-decay", o.weight_decay, 0, 1e6);
  in_range("label-smoothing", o.label_smoothing, 0, 1);
  in_range("clip-grad-norm", o.clip_grad_norm, 0, 1e9);
  in_range("model-ema", o.model_ema, 0, 1);
  in_range("shuffle-buffer", o.shuffle_buffer, 1, 1e9);
  in_range("workers", o.workers, 0, 1024);
  in_range("threads", o.threads, 0, 4096);
  in_range("skip-bad", o.skip_bad, 0, 1e9);
  in_range("checkpoint-interval", o.checkpoint_interval, 0, 1e9);
  in_range("checkpoint-hist", o.checkpoint_hist, 0, 1e6);
  in_range("print-freq", o.print_freq, 1, 1e9);
  in_range("train-crop-size", o.train_crop_size, 0, 4096);
  in_range("val-crop-size", o.val_crop_size, 0, 4096);
  in_range("val-resize-size", o.val_resize_size, -1, 4096);
  in_range("in-channels", o.in_channels, 0, 3);
  in_range("num-classes", o.num_classes, 0, 1e6);
  in_range("seed", o.seed, 0, 2147483647);

  if (!o.phase_epochs.empty()) {
    for (const int epochs : o.phase_epochs) in_range("phase-epochs", epochs, 1, 1e6);
    check(sum(o.phase_epochs) == o.epochs, ErrorKind::usage, "--phase-epochs: ", sum(o.phase_epochs),
          " epochs in all, --epochs ", o.epochs);
  }

  ResolvedOptions r;
  r.sgd = {o.momentum, o.weight_decay, o.clip_grad_norm};
  r.schedule = {choose("lr-scheduler", o.lr_scheduler, schedules),
                o.lr,
                o.lr_gamma,
                o.lr_step_size,
                o.lr_warmup_epochs,
                static_cast<double>(o.epochs)};
  r.dataset = parse_dataset_kind(o.dataset);
  r.distill = choose("distill", o.distill, distillations);
  check(r.distill != Distill::none || (o.teacher.empty() && o.teacher_model.empty()), ErrorKind::usage,
        o.teacher.empty() ? "--teacher-model" : "--teacher", " has no effect with --distill none");
  r.augmentation = o.augment.empty() ? Augmentation::none : choose("augment", o.augment, augmentations);
  return r;
}

}  // namespace faq
