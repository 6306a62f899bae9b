// A training run from options to results.
#pragma once

#include <string>

#include "train/evaluate.h"
#include "train/method.h"
#include "train/options.h"

namespace faq {

struct TrainResult {
  bool stopped = false;  ///< by a signal, after saving: run again with --resume auto
  std::int64_t epochs = 0;
  Evaluation initial;  ///< before the first step, quantized if the run is
  Evaluation last;
  Evaluation best;
  std::int64_t best_epoch = -1;
  double seconds = 0;
  double train_images_per_s = 0;
  std::size_t peak_bytes = 0;
  std::int64_t skipped = 0;  ///< bad images, of at most --skip-bad in training and in validation
};

struct RunContext {
  std::string command;  ///< for run.json
  bool quiet = false;   ///< no progress on stderr
};

/// Runs, or continues, a run. Throws Error; `diverged` names the last good checkpoint.
TrainResult train(const TrainOptions& options, const RunContext& context = {});
/// The same with a method of your own. Throws usage when the recipe is quantized and the method is not, or
/// the other way round: what is recorded must be what was done.
TrainResult train(const TrainOptions& options, Method& method, const RunContext& context);

}  // namespace faq
