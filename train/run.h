// A run before its first step: what its options stand for, its data and its network.
#pragma once

#include <vector>

#include "train/learner.h"
#include "train/schedule.h"
#include "train/setup.h"

namespace faq {

/// Its parts refer to each other: it stays where it was made.
struct Run {
  /// Opens the data. Throws Error for whatever is wrong with the options, the data or the teacher; nothing
  /// has been written then.
  Run(const TrainOptions& given, Method& method);
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;

  TrainOptions options;  ///< as given, with what they left to the weights, the checkpoint and the data
  ScheduleOptions schedule;
  std::vector<Phase> phases;
  Data data;
  Loader train_loader;
  Loader val_loader;
  Learner learner;
  std::int64_t steps_per_epoch;

  /// Of the first epoch, by the training loader: not while an epoch of it is under way.
  BatchSource training_batches();
  /// What a network of this run is deployed for.
  Method::Deployment deployment() const;
};

}  // namespace faq
