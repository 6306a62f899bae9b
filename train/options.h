// Everything a training run is told. One table names every option for the command line, config files and
// presets.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "data/dataset.h"
#include "data/loader.h"
#include "train/schedule.h"
#include "train/sgd.h"

namespace faq {

/// As given; text stands for enumerations until resolve().
struct TrainOptions {
  // model
  std::string model = "resnet20";
  std::string weights;
  int num_classes = 0;  ///< 0: those of the data
  int in_channels = 0;  ///< 0: those of the weights, else 1 for IDX data and 3 for everything else
  // quantization
  std::string preset;
  std::string scheme = "none";
  int weight_bits = 8;
  int act_bits = 8;
  int first_last_bits = 8;
  std::vector<std::string> layer_bits;
  std::string calibration = "percentile";
  double calibration_percentile = 0;
  int calibration_batches = 5;
  std::string weight_scale = "mse";
  double hold_weight_scales = 0.75;  ///< share of a phase after which they stay; 1: never
  std::string equalize;              ///< empty: channels for faq, none for the others
  std::string cluster_size = "4";    ///< a number, or all
  std::string ternary_scale = "rms";
  std::string stages = "both";
  std::string bits_schedule;        ///< empty: one width
  std::vector<int> phase_epochs;    ///< empty: equal shares of `epochs`
  double stochastic_precision = 1;  ///< the probability it begins with; 1: always quantized
  double stochastic_tail = 0.2;     ///< share of a phase at its end in which everything is quantized
  std::string distill = "none";
  std::string teacher;        ///< empty: --weights
  std::string teacher_model;  ///< empty: that of the teacher's checkpoint, else --model
  double distill_weight = 1;
  int batch_norm_batches = -1;  ///< -1: as many as calibration takes for dfp, none for the others
  std::string engine = "integer";
  std::string grad_dtype;  ///< empty: bf16 for quantized training on a CPU with bf16, else f32
  // training
  int epochs = 1;
  int batch_size = 128;
  int grad_accum_steps = 1;
  double lr = 0.1;
  std::string lr_scheduler = "constant";
  double lr_gamma = 0.1;
  double lr_step_size = 30;
  double lr_warmup_epochs = 0;
  double momentum = 0.9;
  double weight_decay = 1e-4;
  double label_smoothing = 0;
  double clip_grad_norm = 0;
  double model_ema = 0;  ///< decay; 0: no average
  int seed = 0;
  // data
  std::string data_path;
  std::string dataset = "auto";
  int shuffle_buffer = 8192;
  int workers = 2;
  // What is left open here is chosen with the network: see choose_preprocessing.
  int train_crop_size = 0;
  int val_resize_size = -1;  ///< 0: no resizing
  int val_crop_size = 0;
  std::string augment;
  std::vector<double> mean;
  std::vector<double> std;
  int skip_bad = 0;
  // run
  std::string output_dir;
  std::string resume;
  int checkpoint_interval = 0;  ///< optimizer steps; 0: at the end of every epoch only
  int checkpoint_hist = 2;
  int threads = 0;
  int print_freq = 50;
};

/// One option: its names (the first is the canonical one), what it means and where it lives.
struct OptionRow {
  using Member = std::variant<int TrainOptions::*, double TrainOptions::*, std::string TrainOptions::*,
                              std::vector<std::string> TrainOptions::*, std::vector<double> TrainOptions::*,
                              std::vector<int> TrainOptions::*>;
  std::vector<std::string> names;
  std::string section;
  std::string value;  ///< placeholder in the help
  std::string help;
  Member member;
  std::string alone = {};  ///< the value of the option given without one; empty: it wants one
};
const std::vector<OptionRow>& option_table();
/// The row of that name; throws usage, naming the nearest, when there is none.
const OptionRow& find_option(const std::string& name);

/// A setting as text: (name, value). A list option given several times accumulates (layer-bits) or is
/// comma-separated (mean, std, phase-epochs).
using Setting = std::pair<std::string, std::string>;

/// Throws usage when the text is not a value of the option's type.
void apply(TrainOptions& options, const Setting& setting);
/// Defaults, then the config file's preset (unless the settings have one), the config file, the settings'
/// preset, the settings: what comes later wins.
/// Epochs of phases that are given without those of the run are added up.
/// `source`: what to call the config in messages.
TrainOptions assemble(const nlohmann::json& config, const std::vector<Setting>& settings,
                      const std::string& source = "config");
/// Every option under its canonical name; assemble(to_json(o), {}) gives o again.
nlohmann::json to_json(const TrainOptions& options);
/// The settings a preset stands for (method.md, "Recipe"); throws usage for an unknown one.
const std::vector<Setting>& preset(const std::string& name);

/// The options of training as the library's types (those of quantization: tools/quantization.h); throws usage
/// for values outside their range.
enum class Distill { none, joint, frozen };
struct ResolvedOptions {
  SgdOptions sgd;
  ScheduleOptions schedule;
  DatasetKind dataset;
  Augmentation augmentation;
  Distill distill;
};
ResolvedOptions resolve(const TrainOptions& options);
/// "auto", "imagefolder", "idx" or "cifar".
DatasetKind parse_dataset_kind(const std::string& text);

}  // namespace faq
