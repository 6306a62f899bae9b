// Counts the correct predictions of a network.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/tensor.h"

namespace faq {

struct Evaluation {
  std::int64_t images = 0;
  double top1 = 0;  ///< percent
  double top5 = 0;  ///< percent; always 100 with five classes or fewer
  double loss = 0;  ///< mean cross-entropy
  double images_per_s = 0;
};

/// Counts batches as they come. The last batch may be smaller; nothing is padded. Of equal logits, the
/// smaller class index wins.
class Scores {
 public:
  void add(const Tensor& logits, std::span<const std::int32_t> labels);
  /// Adds the counts of `other`: images and hits exactly, losses up to the rounding of their sum in double.
  void merge(const Scores& other);
  Evaluation result() const;
  /// The number of images whose label has the largest logit.
  std::int64_t correct() const;
  /// The result for the images of one class; empty for a class that has not occurred.
  Evaluation of_class(std::int32_t label) const;

 private:
  struct Counts {
    std::int64_t images = 0;
    std::int64_t top1 = 0;
    std::int64_t top5 = 0;
    double loss = 0;  ///< summed
    void merge(const Counts& other);
  };
  static Evaluation evaluation(const Counts& counts);
  Counts all() const;

  std::vector<Counts> classes_;
};

}  // namespace faq
