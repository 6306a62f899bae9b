// The logits of an evaluation, image by image.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "core/safetensors.h"
#include "data/loader.h"

namespace faq {

/// Collects logits as for_each_batch (train/evaluate.h) hands them out.
class LogitRecord {
 public:
  /// images: the most there will be. Their logits take memory from the first batch on.
  explicit LogitRecord(std::int64_t images);

  /// `logits`: N,K f32. Throws usage for other columns than those of the batches before, and for more images
  /// than said.
  void add(const Batch& batch, const Tensor& logits);

  /// The tensors `logits` N,K f32, `labels` N and `samples` N s32 (positions in the data set), and `images`
  /// u8: the names of the images below the folder of the data set, each with a zero byte behind it; that one
  /// is left out for data without such names. The metadata `classes` is a JSON array of `class_names`; such a
  /// file is known by `record`, which is "logits".
  /// `dataset`: that of the batches.
  NamedTensors contents(const Dataset& dataset, const std::vector<std::string>& class_names) const;

 private:
  std::int64_t capacity_;
  std::int64_t images_ = 0;
  Tensor logits_;
  std::vector<std::int32_t> labels_, samples_;
};

/// Throws usage if a file is there that is not such a record, and io if none can be written there.
void check_may_hold_logits(const std::filesystem::path& file);

}  // namespace faq
