// Counts the correct predictions of a network.
#pragma once

#include <array>
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
///
/// All counts are integers, losses too, so they are the same in whatever order batches and parts come. A loss
/// is rounded to a multiple of 2^-32. Nothing overflows with fewer than 2^31 images. One loss that is not
/// finite, or above 2^32, makes the mean NaN.
class Scores {
 public:
  void add(const Tensor& logits, std::span<const std::int32_t> labels);
  /// Adds the counts of `other`, exactly.
  void merge(const Scores& other);

  /// The counts as numbers for a sum over processes: the element-wise sum of the vectors of several Scores
  /// holds the counts of all of them. `classes` is what all of them have at the most.
  std::vector<std::int64_t> to_counts(std::int64_t classes) const;
  /// The classes that have occurred, or those of the logits if those are more.
  std::int64_t classes() const { return static_cast<std::int64_t>(classes_.size()); }
  static Scores from_counts(std::span<const std::int64_t> counts);

  Evaluation result() const;
  /// The number of images whose label has the largest logit.
  std::int64_t correct() const;
  /// The result for the images of one class; empty for a class that has not occurred.
  Evaluation of_class(std::int32_t label) const;

 private:
  /// The sum of losses is `loss` + `loss_fraction` · 2^-32. Two numbers, because one of 64 bits has not room
  /// for both large losses and many images.
  enum Count { images, top1, top5, loss, loss_fraction, not_finite, kinds };
  using Counts = std::array<std::int64_t, kinds>;
  static void add_loss(Counts& counts, double loss);
  static void add(Counts& counts, const Counts& other);
  static Evaluation evaluation(const Counts& counts);
  Counts all() const;

  std::vector<Counts> classes_;
};

}  // namespace faq
