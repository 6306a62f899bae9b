// A run before its first step: its resolved options, its data and its network.
#pragma once

#include <string>
#include <vector>

#include "train/learner.h"
#include "train/schedule.h"
#include "train/setup.h"
#include "train/share_cpus.h"

namespace faq {

/// Its parts refer to each other, so it cannot be copied or moved.
struct Run {
  /// Opens the data. Throws Error for anything wrong with the options, the data or the teacher. Nothing has
  /// been written at that point.
  /// `open`: as RunContext::open_split.
  Run(const TrainOptions& given, Method& method, Communicator& ranks = single_process(),
      const OpenSplit& open = {});
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;

  Communicator& ranks;
  CpuShare cpus;
  TrainOptions options;  ///< the given options, completed from the weights, the checkpoint and the data
  ScheduleOptions schedule;
  std::vector<Phase> phases;
  Data data;
  Loader train_loader;
  Loader val_loader;
  Learner learner;
  std::int64_t steps_per_epoch;

  /// Batches of the first epoch, from the training loader. Do not use them while the loader is inside an
  /// epoch.
  BatchSource training_batches();
  /// The deployment of a network of this run: the preprocessing of its images.
  Method::Deployment deployment() const;
  /// What in its recipe a user may not have wanted.
  std::vector<std::string> warnings();
};

}  // namespace faq
