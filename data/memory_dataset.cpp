#include "data/memory_dataset.h"

#include <algorithm>
#include <utility>

#include "core/error.h"
#include "data/channels.h"
#include "data/names.h"

namespace faq {
namespace {

class MemoryDataset final : public Dataset {
 public:
  MemoryDataset(MemoryImages images, int channels) : images_(std::move(images)), channels_(channels) {
    bytes_ = static_cast<std::size_t>(images_.height) * static_cast<std::size_t>(images_.width) *
             static_cast<std::size_t>(images_.channels);
    images_.class_names = in_utf8(images_.class_names);
    check(images_.pixels.size() == images_.labels.size() * bytes_, "data set: ", images_.labels.size(),
          " labels for ", images_.pixels.size(), " bytes of images of ", bytes_);
  }

  std::int64_t size() const override { return static_cast<std::int64_t>(images_.labels.size()); }
  Image image(std::int64_t index) const override {
    const std::uint8_t* first = images_.pixels.data() + position(index) * bytes_;
    return with_channels({images_.height, images_.width, images_.channels, {first, first + bytes_}},
                         channels_);
  }
  std::int32_t label(std::int64_t index) const override { return images_.labels[position(index)]; }
  std::string name(std::int64_t index) const override { return concat(images_.source, ", image ", index); }
  const std::vector<std::string>& class_names() const override { return images_.class_names; }
  int channels() const override { return channels_; }
  bool in_memory() const override { return true; }

 private:
  std::size_t position(std::int64_t index) const {
    check(index >= 0 && index < size(), "data set: no image ", index, " among ", size());
    return static_cast<std::size_t>(index);
  }

  MemoryImages images_;
  int channels_;
  std::size_t bytes_ = 0;
};

}  // namespace

std::unique_ptr<Dataset> memory_dataset(MemoryImages images, int channels) {
  return std::make_unique<MemoryDataset>(std::move(images), channels);
}

std::vector<std::string> numbered_classes(std::int32_t count) {
  std::vector<std::string> names;
  for (std::int32_t i = 0; i < count; ++i) names.push_back(std::to_string(i));
  return names;
}

}  // namespace faq
