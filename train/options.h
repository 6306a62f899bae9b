// All options of a training run, in four parts. Text fields are names that the user chooses: a file, a
// folder, a model. train/option_table.h has the names of the fields in config files and on the command line.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "data/dataset.h"
#include "data/loader.h"
#include "train/quant_recipe.h"
#include "train/ranks/sums.h"
#include "train/schedule.h"
#include "train/sgd.h"

namespace faq {

/// The network and its initial weights.
struct ModelChoice {
  std::string model = "resnet20";
  std::string weights = {};  ///< a safetensors file; empty: random weights
  std::vector<std::string> ignore_extra =
      {};               ///< patterns of tensors that `weights` may have beyond the network's
  int num_classes = 0;  ///< 0: those of the data
  int in_channels = 0;  ///< 0: those of the weights, else 1 for IDX data and 3 for everything else
};

/// The images and their preprocessing. Fields that are left open are chosen for the network by
/// choose_preprocessing (train/setup.h).
struct DataChoice {
  std::string data_path = {};
  DatasetKind dataset = DatasetKind::automatic;
  int shuffle_buffer = 8192;
  ClassOrder class_order = ClassOrder::name;
  bool allow_empty_classes = false;
  std::string val_labels = {};  ///< a file with the classes of a val/ without class folders
  int workers = 2;
  int train_crop_size = 0;
  int val_resize_size = -1;  ///< 0: no resizing; -1: left open
  int val_crop_size = 0;
  std::optional<Interpolation> interpolation = {};
  std::optional<Augmentation> augment = {};
  std::vector<double> mean = {};
  std::vector<double> std = {};
  int skip_bad = 0;
};

enum class Distill { none, joint, frozen };

/// How the network is quantized and trained. train/presets.h has named recipes.
struct Recipe : QuantRecipe {
  Distill distill = Distill::none;
  std::string teacher = {};        ///< a safetensors file; empty: `weights`
  std::string teacher_model = {};  ///< empty: the model of the teacher's checkpoint, else `model`
  double distill_weight = 1;
  int epochs = 1;
  std::vector<int> phase_epochs = {};  ///< empty: equal shares of `epochs`
  int batch_size = 128;                ///< of one shard
  int grad_accum_steps = 1;            ///< shards of each rank, where `shards` is 0
  int shards = 0;  ///< batches of a step over all ranks; 0: ranks × grad_accum_steps. A run has it set.
  Allreduce allreduce = Allreduce::tree;
  double lr = 0.1;
  Schedule lr_scheduler = Schedule::constant;
  double lr_gamma = 0.1;
  double lr_step_size = 30;
  double lr_warmup_epochs = 0;
  double momentum = 0.9;
  double weight_decay = 1e-4;
  double label_smoothing = 0;
  double clip_grad_norm = 0;
  double model_ema = 0;  ///< decay; 0: no average
  /// The share of a phase, at its end, in which batch-norm normalises with its running statistics, in
  /// training too, and they stay as they are. 0: never.
  double freeze_batch_norm_stats = 0;
  int seed = 0;
};

/// What report.html of a run has (train/run_report.h).
enum class ReportKind {
  full,  ///< everything; takes the best network, and the one before quantizing, through the validation images
  curves,  ///< what the run has written down anyway
  none     ///< there is none
};

/// Where and how the run works.
struct RunChoice {
  std::string output_dir = {};
  std::string resume = {};      ///< "auto" or a checkpoint file; empty: a new run
  int checkpoint_interval = 0;  ///< in optimizer steps; 0: only at the end of an epoch
  int checkpoint_hist = 2;
  int threads = 0;
  int print_freq = 50;
  ReportKind report = ReportKind::full;
  bool tensorboard = false;  ///< event files, too (train/tensorboard.h)
  double rank_timeout = 30;  ///< seconds without a sign of life after which a rank is lost
};

struct TrainOptions : ModelChoice, DataChoice, Recipe, RunChoice {
  std::string preset = {};  ///< the name of the preset that the recipe started from, for the run's files
};

/// Throws usage for a value out of range and for a combination that makes no sense.
void check_options(const TrainOptions& options);
/// The batches that make a step.
int shards_of(const Recipe& recipe, int ranks);
SgdOptions sgd_options(const Recipe& recipe);
ScheduleOptions schedule_options(const Recipe& recipe);

}  // namespace faq
