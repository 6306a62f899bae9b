// Hashes of values made of several parts.
#pragma once

#include <cstddef>
#include <functional>

namespace faq {

/// Returns a hash of the values in their order.
template <class... Values>
std::size_t hash_of(const Values&... values) {
  std::size_t hash = 0;
  const auto mix = [&hash](std::size_t part) {
    hash ^= part + 0x9e3779b97f4a7c15u + (hash << 6) + (hash >> 2);
  };
  (mix(std::hash<Values>{}(values)), ...);
  return hash;
}

/// For containers whose keys have a member hash().
struct MemberHash {
  template <class Key>
  std::size_t operator()(const Key& key) const {
    return key.hash();
  }
};

}  // namespace faq
