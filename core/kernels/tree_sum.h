// A sum of tensors whose order does not depend on threads.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <utility>

#include "core/tensor.h"

namespace faq::kernels {

/// Adds up f32 tensors, numbered from 0, as the leaves of a binary tree: neighbours first, then neighbours of
/// those sums. So the bits of the sum depend on the tensors and their number alone, in whatever order threads
/// bring them. It holds at most two tensors for each level and thread. Thread-safe.
class TreeSum {
 public:
  explicit TreeSum(std::int64_t leaves) : leaves_(leaves) {}

  /// Each number once. The tensor may be written to.
  void add(std::int64_t number, Tensor leaf);
  /// Precondition: every leaf was added, and there is one.
  Tensor total();

 private:
  using Node = std::pair<int, std::int64_t>;  ///< level, number within the level

  std::int64_t leaves_;
  std::mutex mutex_;
  std::map<Node, Tensor> waiting_;  ///< for their neighbours
};

}  // namespace faq::kernels
