// The extents of a tensor: up to four dimensions, no allocation.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <ostream>
#include <span>

#include "core/error.h"
#include "core/hash.h"

namespace faq {

class Shape {
 public:
  static constexpr int max_rank = 4;

  Shape() = default;
  Shape(std::initializer_list<std::int64_t> extents)
      : Shape(std::span<const std::int64_t>(extents.begin(), extents.size())) {}
  explicit Shape(std::span<const std::int64_t> extents) : rank_(static_cast<int>(extents.size())) {
    check(extents.size() <= max_rank, "shape: at most ", max_rank, " dimensions, got ", extents.size());
    for (int i = 0; i < rank_; ++i) {
      check(extents[i] >= 0, "shape: negative extent ", extents[i]);
      extents_[i] = extents[i];
    }
  }

  int rank() const { return rank_; }
  std::int64_t operator[](int i) const { return extents_[i]; }
  std::int64_t numel() const {
    std::int64_t n = 1;
    for (int i = 0; i < rank_; ++i) n *= extents_[i];
    return n;
  }
  std::span<const std::int64_t> extents() const { return {extents_.data(), static_cast<std::size_t>(rank_)}; }
  /// Returns the same shape with another extent of dimension i.
  Shape with(int i, std::int64_t extent) const {
    Shape shape = *this;
    shape.extents_[i] = extent;
    return shape;
  }
  std::size_t hash() const { return hash_of(rank_, extents_[0], extents_[1], extents_[2], extents_[3]); }
  bool operator==(const Shape&) const = default;

 private:
  std::array<std::int64_t, max_rank> extents_{};
  int rank_ = 0;
};

inline std::ostream& operator<<(std::ostream& out, const Shape& shape) {
  out << '[';
  for (int i = 0; i < shape.rank(); ++i) out << (i ? ", " : "") << shape[i];
  return out << ']';
}

}  // namespace faq
