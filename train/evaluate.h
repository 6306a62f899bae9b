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
  /// The same of the images of one class; nothing of a class that has not occurred.
  Evaluation of_class(std::int32_t label) const;

 private:
  struct Counts {
    std::int64_t images = 0;
    std::int64_t top1 = 0;
    std::int64_t top5 = 0;
    double loss = 0;  ///< summed
  };
  static Evaluation evaluation(const Counts& counts);

  std::vector<Counts> classes_;
};

/// `forward`: u8 images N,H,W,C to logits N,K.
Evaluation evaluate(const std::function<Tensor(const Tensor&)>& forward, Loader& loader);
/// The same, leaving what was counted in `scores`.
Evaluation evaluate(const std::function<Tensor(const Tensor&)>& forward, Loader& loader, Scores& scores);
/// Runs the loader's images through `forward` and hands the logits on; returns images per second.
double for_each_batch(const std::function<Tensor(const Tensor&)>& forward, Loader& loader,
                      const std::function<void(const Batch&, const Tensor& logits)>& body);

}  // namespace faq
