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
  void add(std::int64_t number, Tensor leaf) { add_node(0, number, std::move(leaf)); }
  /// Instead of add(), for a leaf that is not computed yet: returns the leaf that it is added to, if that is
  /// there, else nothing. Then the sum of both goes to add_pair().
  Tensor take_neighbour(std::int64_t number);
  void add_pair(std::int64_t number, Tensor sum) { add_node(1, number / 2, std::move(sum)); }
  /// Precondition: every leaf was added, and there is one.
  Tensor total();

 private:
  using Node = std::pair<int, std::int64_t>;  ///< level, number within the level

  void add_node(int level, std::int64_t number, Tensor sum);
  /// Returns it if it waits, else nothing.
  Tensor take(Node node);

  std::int64_t leaves_;
  std::mutex mutex_;
  std::map<Node, Tensor> waiting_;  ///< for their neighbours
};

}  // namespace faq::kernels
