#include "core/kernels/tree_sum.h"

#include "core/kernels/elementwise.h"

namespace faq::kernels {

void TreeSum::add(std::int64_t number, Tensor leaf) {
  check(number >= 0 && number < leaves_, ErrorKind::internal, "sum of ", leaves_, " tensors: number ",
        number);
  int level = 0;
  std::int64_t nodes = leaves_;  // of the level
  while (nodes > 1) {
    const std::int64_t neighbour = number ^ 1;
    if (neighbour < nodes) {
      Tensor other;
      {
        const std::lock_guard lock(mutex_);
        const auto found = waiting_.find({level, neighbour});
        if (found == waiting_.end()) {
          waiting_.emplace(Node{level, number}, std::move(leaf));
          return;
        }
        other = std::move(found->second);
        waiting_.erase(found);
      }
      add_in_place(leaf, other);  // the same bits in either order
    }
    number /= 2;
    nodes = (nodes + 1) / 2;
    ++level;
  }
  const std::lock_guard lock(mutex_);
  waiting_.emplace(Node{level, 0}, std::move(leaf));
}

Tensor TreeSum::total() {
  check(waiting_.size() == 1, ErrorKind::internal, "sum of ", leaves_, " tensors: ", waiting_.size(),
        " parts");
  return waiting_.begin()->second;
}

}  // namespace faq::kernels
