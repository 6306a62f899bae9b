// Accuracy of a network on a data set.
#pragma once

#include <functional>
#include <string>

#include "data/loader.h"
#include "train/progress_display.h"

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
  /// Images whose label came first.
  std::int64_t correct() const;
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
  Counts all() const;

  std::vector<Counts> classes_;
};

/// Of u8 images N,H,W,C, the logits N,K.
using Forward = std::function<Tensor(const Tensor& images)>;

/// Runs the loader's images through `forward`, leaving what was counted in `scores`. This and the next throw
/// `stopped` as soon as a signal asks for it (train/signals.h), where handlers are installed.
Evaluation evaluate(const Forward& forward, Loader& loader, Scores& scores, ProgressDisplay& display);
/// Runs the loader's images through `forward` and hands the logits on; returns images per second. `figures`:
/// what is known so far, for the display.
double for_each_batch(const Forward& forward, Loader& loader,
                      const std::function<void(const Batch&, const Tensor& logits)>& body,
                      ProgressDisplay& display, const std::function<std::string()>& figures);

}  // namespace faq
