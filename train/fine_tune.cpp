#include "train/fine_tune.h"

#include "train/run_files.h"
#include "train/trainer.h"

namespace faq {

TrainResult FineTune::run(const RunContext& context) const {
  RunListeners others(context.listeners);
  RunFiles files(others, context.stop);
  RunContext with_files = context;
  with_files.listeners = files.listeners();
  return train(options(), with_files);
}

}  // namespace faq
