// A cache of the most recently used values.
#pragma once

#include <cstddef>
#include <list>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <utility>

#include "core/hash.h"

namespace faq {

/// Holds at most `capacity` values. A new value replaces the one that was unused for the longest time.
/// Thread-safe. Keys need operator== and hash().
template <class Key, class Value>
class BoundedCache {
 public:
  explicit BoundedCache(std::size_t capacity) : capacity_(capacity) {}

  /// Returns the value of `key`. If there is none, calls make() for it; an exception from make() passes
  /// through. Other threads wait meanwhile, so no value is made twice. The value lives as long as somebody
  /// holds it.
  template <class Make>
  std::shared_ptr<const Value> get(const Key& key, Make make) {
    const std::lock_guard lock(mutex_);
    const auto found = entries_.find(key);
    if (found != entries_.end()) {
      order_.splice(order_.begin(), order_, found->second);
      return found->second->second;
    }
    auto value = std::make_shared<const Value>(make());
    order_.emplace_front(key, value);
    entries_.emplace(key, order_.begin());
    if (order_.size() > capacity_) {
      entries_.erase(order_.back().first);
      order_.pop_back();
    }
    return value;
  }

  std::size_t size() const {
    const std::lock_guard lock(mutex_);
    return order_.size();
  }
  void clear() {
    const std::lock_guard lock(mutex_);
    entries_.clear();
    order_.clear();
  }

 private:
  using Order = std::list<std::pair<Key, std::shared_ptr<const Value>>>;

  const std::size_t capacity_;
  mutable std::mutex mutex_;
  Order order_;  ///< most recently used first
  std::unordered_map<Key, typename Order::iterator, MemberHash> entries_;
};

}  // namespace faq
