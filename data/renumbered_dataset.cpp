#include <algorithm>
#include <map>
#include <utility>

#include "core/error.h"
#include "data/dataset_wrapper.h"

namespace faq {
namespace {

class RenumberedDataset final : public DatasetWrapper {
 public:
  RenumberedDataset(std::unique_ptr<Dataset> dataset, std::vector<std::string> classes,
                    std::vector<std::int32_t> labels)
      : DatasetWrapper(std::move(dataset)), classes_(std::move(classes)), labels_(std::move(labels)) {}

  std::int32_t label(std::int64_t index) const override {
    return labels_[static_cast<std::size_t>(inner().label(index))];
  }
  const std::vector<std::string>& class_names() const override { return classes_; }

 private:
  std::vector<std::string> classes_;
  std::vector<std::int32_t> labels_;  ///< by the data set's own
};

}  // namespace

std::unique_ptr<Dataset> with_classes(std::unique_ptr<Dataset> dataset, std::vector<std::string> classes) {
  std::map<std::string, std::int32_t> numbers;
  for (const std::string& name : classes) numbers.emplace(name, static_cast<std::int32_t>(numbers.size()));
  check(numbers.size() == classes.size(), ErrorKind::bad_data, "classes: a name occurs twice");
  std::vector<std::int32_t> labels;
  for (const std::string& name : dataset->class_names()) {
    const auto found = numbers.find(name);
    check(found != numbers.end(), ErrorKind::bad_data, "class '", name, "' is none of the ", classes.size(),
          " expected");
    labels.push_back(found->second);
  }
  if (dataset->class_names() == classes) return dataset;
  return std::make_unique<RenumberedDataset>(std::move(dataset), std::move(classes), std::move(labels));
}

}  // namespace faq
