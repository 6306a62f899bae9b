// The logits of an evaluation, image by image.
#pragma once

#include <cstdint>
#include <vector>

#include "core/safetensors.h"
#include "data/loader.h"

namespace faq {

/// Collects logits as for_each_batch (train/evaluate.h) hands them out. Takes the memory of all logits.
class LogitRecord {
 public:
  /// `logits`: N,K f32. Throws usage for other columns than those of the batches before.
  void add(const Batch& batch, const Tensor& logits);

  /// The tensors `logits` N,K f32, `labels` N s32 and `samples` N s32, positions in the data set; and the
  /// metadata `classes` and `images`, JSON arrays of the K names of the classes and of the N names of the
  /// images below the folder of the data set, which is left out for data without such names. `dataset`: that
  /// of the batches.
  NamedTensors contents(const Dataset& dataset) const;

 private:
  std::int64_t classes_ = 0;
  std::vector<float> logits_;
  std::vector<std::int32_t> labels_, samples_;
};

}  // namespace faq
