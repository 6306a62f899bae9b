// What a network got right.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/tensor.h"

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
  /// Adds what `other` has counted: images and hits exactly, losses up to the rounding of their sum in
  /// double.
  void merge(const Scores& other);
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
    void merge(const Counts& other);
  };
  static Evaluation evaluation(const Counts& counts);
  Counts all() const;

  std::vector<Counts> classes_;
};

}  // namespace faq
