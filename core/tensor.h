// Tensor: a cheap handle on shared, aligned, dense storage.
#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <optional>
#include <span>

#include "core/dtype.h"
#include "core/fixed_point.h"
#include "core/shape.h"

namespace faq {

/// A dense array. Copying a Tensor copies the handle. Images are N,H,W,C; convolution weights O,I,H,W, as in
/// PyTorch. An integer tensor that stands for real numbers carries its `FixedPoint` (value = integer ×
/// scale).
class Tensor {
 public:
  Tensor() = default;  ///< no tensor: defined() is false

  /// Uninitialised.
  static Tensor empty(const Shape& shape, DType dtype = DType::f32);
  static Tensor empty(const Shape& shape, DType dtype, const FixedPoint& format);
  static Tensor zeros(const Shape& shape, DType dtype = DType::f32);
  static Tensor full(const Shape& shape, float value);
  template <class T>
  static Tensor from(const Shape& shape, std::span<const T> values) {
    Tensor t = empty(shape, dtype_of<T>);
    t.copy_in(values.data(), values.size_bytes());
    return t;
  }
  static Tensor from(const Shape& shape, std::initializer_list<float> values) {
    return from<float>(shape, std::span<const float>(values.begin(), values.size()));
  }

  bool defined() const { return storage_ != nullptr; }
  explicit operator bool() const { return defined(); }

  const Shape& shape() const { return shape_; }
  int rank() const { return shape_.rank(); }
  std::int64_t dim(int i) const { return shape_[i]; }
  std::int64_t numel() const { return shape_.numel(); }
  DType dtype() const { return dtype_; }
  std::size_t bytes() const { return static_cast<std::size_t>(numel()) * size_of(dtype_); }

  /// How to read the integers. Precondition: is_fixed_point().
  const FixedPoint& fixed_point() const;
  bool is_fixed_point() const { return format_.has_value(); }
  void set_fixed_point(const FixedPoint& format) { format_ = format; }

  /// Typed access. Throws when T is not the dtype.
  ///
  /// The mutable_ functions change the version when they are called, not at each write. So do not write
  /// through a pointer after the next use of the tensor: ask for a new one. Do not ask once per element.
  template <class T>
  const T* data() const {
    expect(dtype_of<T>);
    return static_cast<const T*>(raw());
  }
  template <class T>
  T* mutable_data() {
    expect(dtype_of<T>);
    return static_cast<T*>(mutable_raw());
  }
  template <class T>
  std::span<const T> span() const {
    return {data<T>(), static_cast<std::size_t>(numel())};
  }
  template <class T>
  std::span<T> mutable_span() {
    return {mutable_data<T>(), static_cast<std::size_t>(numel())};
  }
  const void* raw() const;
  void* mutable_raw();

  /// Returns the same storage with another shape. Throws unless the number of elements is the same.
  Tensor reshaped(const Shape& shape) const;
  /// Returns the same storage from element `begin` to `end` of the first dimension: some images of a batch.
  /// Throws for a range outside the dimension.
  Tensor rows(std::int64_t begin, std::int64_t end) const;
  /// Returns part of the same storage as another tensor: a place in a planned block of memory. `offset` is in
  /// bytes. Throws when the part is not inside this tensor or not aligned to the dtype.
  Tensor placed(std::size_t offset, const Shape& shape, DType dtype) const;
  /// Returns a copy with its own storage.
  Tensor clone() const;
  /// Returns the value of a tensor of one element, as f32 (an integer is not multiplied by the scale).
  float item() const;

  /// The version of the storage. It gets a new number, unique in the program, when the storage is made and
  /// whenever write access is requested. A result derived from a tensor is valid while version and shape stay
  /// the same.
  std::uint64_t version() const;
  /// True if this is the only handle on the storage: nobody else would notice a write.
  bool is_only_handle() const { return storage_.use_count() == 1; }
  /// True if both handles have the same storage.
  bool same_storage(const Tensor& other) const { return storage_ == other.storage_; }

 private:
  struct Storage {
    std::shared_ptr<std::byte> memory;
    std::atomic<std::uint64_t> version;  ///< several threads may write, each its own rows
  };

  void expect(DType wanted) const;
  void copy_in(const void* source, std::size_t bytes);

  std::shared_ptr<Storage> storage_;
  std::size_t offset_ = 0;  ///< offset of the first element, in bytes
  Shape shape_;
  DType dtype_ = DType::f32;
  std::optional<FixedPoint> format_;
};

}  // namespace faq
