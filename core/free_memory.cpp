#include "core/free_memory.h"

#include <iterator>

namespace faq {

void FreeMemory::forget(Ranges::iterator range) noexcept {
  by_size_.erase({range->second, range->first});
  by_address_.erase(range);
}

void FreeMemory::add(MemoryRange range) {
  const auto behind = by_address_.lower_bound(range.begin);
  const bool joins_behind = behind != by_address_.end() && behind->first == range.begin + range.size;
  const auto before = behind == by_address_.begin() ? by_address_.end() : std::prev(behind);
  const bool joins_before = before != by_address_.end() && before->first + before->second == range.begin;
  if (joins_behind) range.size += behind->second;
  if (joins_before) range = {before->first, before->second + range.size};
  const auto sized = by_size_.emplace(range.size, range.begin).first;
  if (!joins_before) {
    try {
      by_address_.emplace_hint(behind, range.begin, range.size);
    } catch (...) {
      by_size_.erase(sized);
      throw;
    }
  } else {
    by_size_.erase({before->second, before->first});
    before->second = range.size;
  }
  if (joins_behind) forget(behind);
}

std::byte* FreeMemory::take(std::size_t size) noexcept {
  const auto best = by_size_.lower_bound({size, nullptr});
  if (best == by_size_.end()) return nullptr;
  const auto [available, begin] = *best;
  if (available == size) {
    forget(by_address_.find(begin));
    return begin;
  }
  // The nodes of both books are used again: nothing can fail.
  auto by_address = by_address_.extract(begin);
  auto by_size = by_size_.extract(best);
  by_address.key() = begin + size;
  by_address.mapped() = available - size;
  by_size.value() = {available - size, begin + size};
  by_address_.insert(std::move(by_address));
  by_size_.insert(std::move(by_size));
  return begin;
}

FreeMemory::Ranges FreeMemory::take_all() noexcept {
  by_size_.clear();
  return std::exchange(by_address_, {});
}

}  // namespace faq
