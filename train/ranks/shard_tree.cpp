#include "train/ranks/shard_tree.h"

#include <algorithm>
#include <bit>

namespace faq {

ShardRange shards_of_rank(int shards, int present, int rank, int ranks) {
  const int own = shards / ranks;
  return {std::min(rank * own, present), std::min((rank + 1) * own, present)};
}

std::vector<ShardRange> nodes_in(ShardRange range, int count) {
  std::vector<ShardRange> nodes;
  for (int begin = range.begin; begin < range.end;) {
    int size = 1;
    while (begin % (2 * size) == 0 && begin + size < count && std::min(begin + 2 * size, count) <= range.end)
      size *= 2;
    nodes.push_back({begin, std::min(begin + size, count)});
    begin += size;
  }
  return nodes;
}

bool are_halves(ShardRange left, ShardRange right, int count) {
  const int size = left.size();
  return size > 0 && std::has_single_bit(static_cast<unsigned>(size)) && left.begin % (2 * size) == 0 &&
         right.begin == left.end && right.end == std::min(left.end + size, count);
}

}  // namespace faq
