// Sums over the shards of a step.
#pragma once

#include <cstdint>
#include <vector>

#include "core/tensor.h"
#include "train/ranks/shard_tree.h"

namespace faq {

class Wire;

/// How gradients are summed over the shards.
enum class Allreduce {
  tree,  ///< by the tree over the shards: the same bits on any number of ranks
  mpi,   ///< the sums of ranks by MPI's own all-reduce; the bits depend on the ranks
  s16,   ///< as 16-bit integers, which take half the bytes; the same bits on any number of ranks
};

/// What the shards of one rank contribute to a sum.
struct ShardSums {
  int shards = 1;   ///< of a global batch; the ranks divide it
  int present = 1;  ///< of this step
  /// 1-D, f32, all of one size: with s16 one per shard of this rank, else one per node (nodes_in). Empty on a
  /// rank without shards in this step. They may be overwritten.
  std::vector<Tensor> parts = {};
  Tensor result = {};  ///< receives the sum; 1-D, f32; may be parts[0]
  /// s16: the elements before each of these ends share one scale. Empty: all of them.
  std::vector<std::int64_t> ends = {};
};

/// Sums by the tree. If the shards of each rank are one node and the number of ranks is a power of two:
/// recursive halving from neighbours outwards, then back (2·log2 N messages, 2·(N−1)/N of the bytes; Thakur,
/// Rabenseifner and Gropp, IJHPCA 2005). Else every rank sums its share of the elements from all nodes, and
/// sends it to all.
void sum_by_tree(ShardSums& sums, Wire& wire);
/// Sums the parts of this rank, then MPI sums over the ranks.
void sum_by_mpi(ShardSums& sums, Wire& wire);
/// scale = largest magnitude of all shards / 32767; each shard is rounded to the nearest multiple of it; the
/// integers are summed exactly; their mean, rounded to 16 bits, goes to all ranks. So the sum that comes out
/// is off by at most `present` · scale. A shard that is not finite makes the sum NaN.
void sum_by_s16(ShardSums& sums, Wire& wire);

void sum(ShardSums& sums, Allreduce how, Wire& wire);

}  // namespace faq
