// A data set that is another one but for what a class overrides.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "data/dataset.h"

namespace faq {

class DatasetWrapper : public Dataset {
 public:
  explicit DatasetWrapper(std::unique_ptr<Dataset> dataset) : dataset_(std::move(dataset)) {}

  std::int64_t size() const override { return dataset_->size(); }
  Image image(std::int64_t index) const override { return dataset_->image(index); }
  std::int32_t label(std::int64_t index) const override { return dataset_->label(index); }
  std::string name(std::int64_t index) const override { return dataset_->name(index); }
  const std::vector<std::string>& class_names() const override { return dataset_->class_names(); }
  int channels() const override { return dataset_->channels(); }
  std::vector<std::int64_t> shuffled(std::uint64_t seed, std::int64_t epoch) const override {
    return dataset_->shuffled(seed, epoch);
  }
  bool in_memory() const override { return dataset_->in_memory(); }
  std::string relative_name(std::int64_t index) const override { return dataset_->relative_name(index); }
  std::vector<std::string> notes() const override { return dataset_->notes(); }

 protected:
  const Dataset& inner() const { return *dataset_; }

 private:
  std::unique_ptr<Dataset> dataset_;
};

}  // namespace faq
