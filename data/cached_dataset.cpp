#include <algorithm>
#include <array>
#include <atomic>
#include <mutex>
#include <utility>

#include "core/error.h"
#include "data/dataset_wrapper.h"

namespace faq {
namespace {

class CachedDataset final : public DatasetWrapper {
 public:
  CachedDataset(std::unique_ptr<Dataset> dataset, std::size_t byte_budget)
      : DatasetWrapper(std::move(dataset)), budget_(byte_budget), images_(static_cast<std::size_t>(size())) {}

  Image image(std::int64_t index) const override {
    if (!keeping_) return inner().image(index);
    check(index >= 0 && index < size(), "cached data set: no image ", index, " among ", size());
    auto& slot = images_[static_cast<std::size_t>(index)];
    std::mutex& mutex = mutexes_[static_cast<std::size_t>(index) % mutexes_.size()];
    {
      const std::lock_guard lock(mutex);
      if (slot) return *slot;
    }
    Image image = inner().image(index);
    if (reserve(image.pixels.size() + sizeof(Image))) {
      auto kept = std::make_unique<const Image>(image);
      const std::lock_guard lock(mutex);
      if (keeping_ && !slot) slot = std::move(kept);
    }
    return image;
  }

 private:
  /// True if another image of this size may be kept. The average size so far predicts the size of the whole
  /// data set. If that does not fit, all pixels are dropped, because part of an epoch is not worth the
  /// memory.
  bool reserve(std::size_t bytes) const {
    constexpr double enough = 64;
    bool fits = false;
    {
      const std::lock_guard lock(counting_);
      bytes_ += static_cast<double>(bytes);
      count_ += 1;
      const double expected = count_ >= enough ? bytes_ / count_ * static_cast<double>(size()) : bytes_;
      fits = keeping_ && std::max(bytes_, expected) <= static_cast<double>(budget_);
    }
    if (!fits && keeping_.exchange(false)) let_go();
    return fits;
  }

  void let_go() const {
    for (std::size_t m = 0; m < mutexes_.size(); ++m) {
      const std::lock_guard lock(mutexes_[m]);
      for (std::size_t i = m; i < images_.size(); i += mutexes_.size()) images_[i].reset();
    }
  }

  std::size_t budget_;
  mutable std::atomic<bool> keeping_ = true;
  mutable std::mutex counting_;
  mutable double bytes_ = 0;
  mutable double count_ = 0;
  /// Image i is guarded by mutex i mod 64.
  mutable std::array<std::mutex, 64> mutexes_;
  mutable std::vector<std::unique_ptr<const Image>> images_;
};

}  // namespace

std::unique_ptr<Dataset> cached(std::unique_ptr<Dataset> dataset, std::size_t byte_budget) {
  if (dataset->in_memory()) return dataset;
  return std::make_unique<CachedDataset>(std::move(dataset), byte_budget);
}

}  // namespace faq
