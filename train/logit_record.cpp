#include "train/logit_record.h"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <system_error>

#include "core/atomic_file.h"
#include "data/dataset.h"

namespace faq {
namespace {

constexpr const char* kind = "record";  // of the metadata, by which such a file is known
constexpr const char* of_logits = "logits";

Tensor names_of(const std::vector<std::int32_t>& samples, const Dataset& dataset) {
  std::vector<std::uint8_t> bytes;
  for (const std::int32_t sample : samples) {
    const std::string name = dataset.relative_name(sample);
    if (name.empty()) return {};
    bytes.insert(bytes.end(), name.begin(), name.end());
    bytes.push_back(0);
  }
  return Tensor::from<std::uint8_t>({static_cast<std::int64_t>(bytes.size())}, bytes);
}

}  // namespace

LogitRecord::LogitRecord(std::int64_t images) : capacity_(images) {
  check(images >= 0 && images <= std::numeric_limits<std::int32_t>::max(), ErrorKind::usage,
        "record of logits: ", images, " images, expected at most ", std::numeric_limits<std::int32_t>::max());
}

void LogitRecord::add(const Batch& batch, const Tensor& logits) {
  if (!logits_.defined() && logits.rank() == 2) logits_ = Tensor::empty({capacity_, logits.dim(1)});
  check(logits.shape() == Shape{batch.size(), logits_.defined() ? logits_.dim(1) : 0} &&
            images_ + batch.size() <= capacity_,
        ErrorKind::usage, "record of logits: ", logits.shape(), " for ", batch.size(), " images after ",
        images_, " of ", capacity_);
  Tensor place = logits_.rows(images_, images_ + batch.size());
  std::ranges::copy(logits.span<float>(), place.mutable_span<float>().begin());
  images_ += batch.size();
  labels_.insert(labels_.end(), batch.labels.begin(), batch.labels.end());
  for (const std::int64_t sample : batch.samples) samples_.push_back(static_cast<std::int32_t>(sample));
}

NamedTensors LogitRecord::contents(const Dataset& dataset,
                                   const std::vector<std::string>& class_names) const {
  NamedTensors record;
  record.add("logits", logits_.defined() ? logits_.rows(0, images_) : Tensor::empty({0, 0}));
  record.add("labels", Tensor::from<std::int32_t>({images_}, labels_));
  record.add("samples", Tensor::from<std::int32_t>({images_}, samples_));
  if (const Tensor names = names_of(samples_, dataset); names.defined()) record.add("images", names);
  record.metadata = {{kind, of_logits}, {"classes", nlohmann::json(class_names).dump()}};
  return record;
}

void check_may_hold_logits(const std::filesystem::path& file) {
  std::error_code none;
  if (std::filesystem::exists(file, none)) {
    bool replaces = false;
    try {
      const auto metadata = read_safetensors_metadata(file);
      const auto found = metadata.find(kind);
      replaces = found != metadata.end() && found->second == of_logits;
    } catch (const Error&) {  // it is something else
    }
    check(replaces, ErrorKind::usage, "record of logits ", file.string(), ": is there and is none");
  }
  AtomicFile can_be_written(file);
}

}  // namespace faq
