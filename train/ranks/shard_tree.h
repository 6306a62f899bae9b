// The order in which the gradients of a step are added: a binary tree over its shards.
#pragma once

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

/// The shards of rank `rank` of `ranks`, when a global batch has `shards` shards and the step has the first
/// `present` of them (the last step of an epoch may have fewer). Precondition: ranks divide shards.
ShardRange shards_of_rank(int shards, int present, int rank, int ranks);

/// The tree over the shards 0 to count − 1: at level l the shards [i·2^l, (i+1)·2^l) make one node, the last node of a
/// level may have fewer. So the sum depends on the number of shards, and not on who computes them.

/// Returns the largest nodes that `range` consists of, in order. Neighbours in it are never one node.
std::vector<ShardRange> nodes_in(ShardRange range, int count);
/// True if the two neighbouring nodes are the two halves of a node.
bool are_halves(ShardRange left, ShardRange right, int count);

}  // namespace faq
