#include "train/trainer.h"

#include "train/quantized_training.h"
#include "train/training_loop.h"

namespace faq {

TrainResult train(const TrainOptions& options, const RunContext& context) {
  const auto method = make_method(options);
  return train(options, *method, context);
}

TrainResult train(const TrainOptions& options, Method& method, const RunContext& context) {
  return context.ranks->together([&] {
    TrainingLoop loop(options, method, context);
    while (loop.next()) {
    }
    return loop.finish();
  });
}

}  // namespace faq
