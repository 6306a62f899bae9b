#include "train/logit_record.h"

#include <nlohmann/json.hpp>

#include "core/json.h"
#include "data/dataset.h"

namespace faq {

void LogitRecord::add(const Batch& batch, const Tensor& logits) {
  check(logits.rank() == 2 && logits.dim(0) == batch.size() && (labels_.empty() || logits.dim(1) == classes_),
        ErrorKind::usage, "record of logits: ", logits.shape(), " for ", batch.size(), " images after ",
        labels_.size(), " of ", classes_, " classes");
  classes_ = logits.dim(1);
  const auto values = logits.span<float>();
  logits_.insert(logits_.end(), values.begin(), values.end());
  labels_.insert(labels_.end(), batch.labels.begin(), batch.labels.end());
  for (const std::int64_t sample : batch.samples) samples_.push_back(static_cast<std::int32_t>(sample));
}

NamedTensors LogitRecord::contents(const Dataset& dataset) const {
  const auto images = static_cast<std::int64_t>(labels_.size());
  NamedTensors record;
  record.add("logits", Tensor::from<float>({images, classes_}, logits_));
  record.add("labels", Tensor::from<std::int32_t>({images}, labels_));
  record.add("samples", Tensor::from<std::int32_t>({images}, samples_));
  record.metadata["classes"] = nlohmann::json(dataset.class_names()).dump();
  nlohmann::json names = nlohmann::json::array();
  for (const std::int32_t sample : samples_) names.push_back(in_utf8(dataset.relative_name(sample)));
  if (images > 0 && !names[0].get_ref<const std::string&>().empty()) record.metadata["images"] = names.dump();
  return record;
}

}  // namespace faq
