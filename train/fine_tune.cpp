#include "train/fine_tune.h"

#include "train/metrics.h"
#include "train/run_report.h"
#include "train/tensorboard.h"
#include "train/trainer.h"

namespace faq {

TrainResult FineTune::run(const RunContext& context) const {
  Metrics metrics;
  TensorBoard events;
  RunListeners others(context.listeners);
  RunReport report(others, context.stop);
  RunContext with_files = context;
  with_files.listeners = {&metrics, &events, &report, &others};
  return train(options(), with_files);
}

}  // namespace faq
