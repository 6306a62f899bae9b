#include "core/extents.h"

#include <iterator>

namespace faq {

void FreeExtents::forget(ByAddress::iterator extent) {
  by_size_.erase({extent->second, extent->first});
  by_address_.erase(extent);
}

void FreeExtents::add(Extent extent) {
  const auto behind = by_address_.lower_bound(extent.begin);
  const bool joins_behind = behind != by_address_.end() && behind->first == extent.begin + extent.size;
  const auto before = behind == by_address_.begin() ? by_address_.end() : std::prev(behind);
  const bool joins_before = before != by_address_.end() && before->first + before->second == extent.begin;
  if (joins_behind) extent.size += behind->second;
  if (joins_before) extent = {before->first, before->second + extent.size};
  const auto sized = by_size_.emplace(extent.size, extent.begin).first;
  if (!joins_before) {
    try {
      by_address_.emplace_hint(behind, extent.begin, extent.size);
    } catch (...) {
      by_size_.erase(sized);
      throw;
    }
  } else {
    by_size_.erase({before->second, before->first});
    before->second = extent.size;
  }
  if (joins_behind) forget(behind);
}

std::byte* FreeExtents::take(std::size_t size) {
  const auto best = by_size_.lower_bound({size, nullptr});
  if (best == by_size_.end()) return nullptr;
  const auto [available, begin] = *best;
  if (available == size) {
    forget(by_address_.find(begin));
    return begin;
  }
  // The nodes of both books are used again: taking memory cannot fail.
  auto by_address = by_address_.extract(begin);
  auto by_size = by_size_.extract(best);
  by_address.key() = begin + size;
  by_address.mapped() = available - size;
  by_size.value() = {available - size, begin + size};
  by_address_.insert(std::move(by_address));
  by_size_.insert(std::move(by_size));
  return begin;
}

std::vector<Extent> FreeExtents::take_all() {
  std::vector<Extent> all;
  for (const auto& [begin, size] : by_address_) all.push_back({begin, size});
  by_address_.clear();
  by_size_.clear();
  return all;
}

}  // namespace faq
