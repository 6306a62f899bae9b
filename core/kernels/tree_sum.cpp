#include "core/kernels/tree_sum.h"

#include "core/kernels/elementwise.h"

namespace faq::kernels {

Tensor TreeSum::take(Node node) {
  const auto found = waiting_.find(node);
  if (found == waiting_.end()) return {};
  Tensor sum = std::move(found->second);
  waiting_.erase(found);
  return sum;
}

Tensor TreeSum::take_neighbour(std::int64_t number) {
  const std::lock_guard lock(mutex_);
  return take({0, number ^ 1});
}

void TreeSum::add_node(int level, std::int64_t number, Tensor sum) {
  std::int64_t nodes = leaves_;  // of the level
  for (int below = 0; below < level; ++below) nodes = (nodes + 1) / 2;
  check(number >= 0 && number < nodes, ErrorKind::internal, "sum of ", leaves_, " tensors: number ", number,
        " of level ", level);
  while (nodes > 1) {
    const std::int64_t neighbour = number ^ 1;
    if (neighbour < nodes) {
      Tensor other;
      {
        const std::lock_guard lock(mutex_);
        other = take({level, neighbour});
        if (!other) {
          waiting_.emplace(Node{level, number}, std::move(sum));
          return;
        }
      }
      add_in_place(sum, other);  // the same bits in either order
    }
    number /= 2;
    nodes = (nodes + 1) / 2;
    ++level;
  }
  const std::lock_guard lock(mutex_);
  waiting_.emplace(Node{level, 0}, std::move(sum));
}

Tensor TreeSum::total() {
  check(waiting_.size() == 1, ErrorKind::internal, "sum of ", leaves_, " tensors: ", waiting_.size(),
        " parts");
  return waiting_.begin()->second;
}

}  // namespace faq::kernels
