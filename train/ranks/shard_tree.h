// The order in which the gradients of a step are added: a binary tree over its shards.
#pragma once

#include <utility>
#include <vector>

namespace faq {

/// Shards [begin, end) of a step.
struct ShardRange {
  int begin = 0;
  int end = 0;
  int size() const { return end - begin; }
  bool empty() const { return begin >= end; }
  bool operator==(const ShardRange&) const = default;
};

/// The shards of a rank, when a global batch has `shards` shards and the step has the first `present` of them
/// (the last step of an epoch may have fewer). Precondition: `ranks` divides `shards`.
ShardRange shards_of_rank(int shards, int present, int rank, int ranks);

/// The tree over the shards 0 to count − 1: at level l, the shards [i·2^l, (i+1)·2^l) make a node; the last
/// node of a level may have fewer. So a sum depends on the number of shards, not on who computes them.
///
/// Returns the largest nodes that `range` consists of, in order.
std::vector<ShardRange> nodes_in(ShardRange range, int count);
/// True if the two neighbours are the two halves of a node.
bool are_halves(ShardRange left, ShardRange right, int count);

/// Adds up nodes that come in order. Each is added as soon as both halves of a node are there.
template <class Sum>
class NodeStack {
 public:
  struct Node {
    ShardRange shards;
    Sum sum;
  };
  /// `add(left, right)` adds the right half to the left one.
  template <class Add>
  void push(ShardRange shards, Sum sum, int count, const Add& add) {
    nodes_.push_back({shards, std::move(sum)});
    while (nodes_.size() > 1) {
      Node& left = nodes_[nodes_.size() - 2];
      Node& right = nodes_.back();
      if (!are_halves(left.shards, right.shards, count)) return;
      add(left.sum, right.sum);
      left.shards.end = right.shards.end;
      nodes_.pop_back();
    }
  }
  /// What has not found its other half. One node when all shards have been pushed.
  std::vector<Node>& nodes() { return nodes_; }

 private:
  std::vector<Node> nodes_;
};

}  // namespace faq
