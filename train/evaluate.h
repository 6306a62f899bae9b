// Accuracy of a network on a data set.
#pragma once

#include <functional>

#include "data/loader.h"

namespace faq {

struct Evaluation {
  std::int64_t images = 0;
  double top1 = 0;  ///< percent
  double top5 = 0;  ///< percent; 100 with five classes or fewer
  double loss = 0;  ///< mean cross-entropy
  double images_per_s = 0;
};

/// Counts whole batches as they come: the last one may be smaller; nothing is padded. A tie of logits is
/// resolved towards the smaller class index.
class Scores {
 public:
  void add(const Tensor& logits, std::span<const std::int32_t> labels);
  Evaluation result() const;

 private:
  std::int64_t images_ = 0;
  std::int64_t top1_ = 0;
  std::int64_t top5_ = 0;
  double loss_ = 0;
};

/// `forward`: u8 images N,H,W,C to logits N,K.
Evaluation evaluate(const std::function<Tensor(const Tensor&)>& forward, Loader& loader);

}  // namespace faq
