// Which classes a network takes for which.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <utility>
#include <vector>

#include "core/tensor.h"

namespace faq {

/// The class with the largest of these logits; of equal ones, the first, as Scores counts them.
std::int32_t predicted_class(std::span<const float> logits);

/// Counts pairs (label, predicted class). Only pairs that occur take memory.
class Confusion {
 public:
  /// `logits`: N,K f32; `labels`: N.
  void add(const Tensor& logits, std::span<const std::int32_t> labels);

  struct Cell {
    std::int32_t label = 0;
    std::int32_t predicted = 0;
    std::int64_t images = 0;
    bool operator==(const Cell&) const = default;
  };
  /// All cells that are not 0, by label, then by prediction.
  std::vector<Cell> cells() const;
  /// At most `most` cells of wrong predictions, the largest first.
  std::vector<Cell> most_confused(std::size_t most) const;
  std::int64_t count(std::int32_t label, std::int32_t predicted) const;

 private:
  std::map<std::pair<std::int32_t, std::int32_t>, std::int64_t> counts_;
};

}  // namespace faq
