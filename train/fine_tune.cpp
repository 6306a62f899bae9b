#include "train/fine_tune.h"

#include "train/metrics.h"
#include "train/trainer.h"

namespace faq {

TrainResult FineTune::run(const RunContext& context) const {
  Metrics metrics;
  RunContext with_metrics = context;
  with_metrics.listeners.insert(with_metrics.listeners.begin(), &metrics);
  return train(options(), with_metrics);
}

}  // namespace faq
