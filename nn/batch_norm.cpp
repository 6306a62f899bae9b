#include "nn/batch_norm.h"

namespace faq {

int reestimate_batch_norm(Model& model, const std::function<std::optional<Tensor>()>& next_images) {
  const NoGrad no_grad;
  int batches = 0;
  while (const auto images = next_images()) {
    ++batches;
    BatchStatistics seen;
    const Pass pass{.normalize = Pass::Normalize::with_batch, .statistics = &seen};
    model.forward(pass, Var(*images));
    update_running_statistics(seen, 1.0f / static_cast<float>(batches));  // a plain mean
  }
  return batches;
}

}  // namespace faq
