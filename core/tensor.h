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

/// Dense array. Copying copies the handle. Images are N,H,W,C; convolution weights O,I,H,W (PyTorch's order).
/// An integer tensor that stands for real numbers carries its `FixedPoint` (value = integer × scale).
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

  /// How integers are to be read; precondition: is_fixed_point().
  const FixedPoint& fixed_point() const;
  bool is_fixed_point() const { return format_.has_value(); }
  void set_fixed_point(const FixedPoint& format) { format_ = format; }

  /// Typed access; throws when T is not the dtype. Asking to write changes the version. That happens here,
  /// not with each write: after the next use of the tensor, the pointer must not be written through any more.
  /// Ask again, and not for each element.
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

  /// The same storage read with another shape of as many elements.
  Tensor reshaped(const Shape& shape) const;
  /// The same storage seen from element `begin` to `end` of the first dimension: some images of a batch.
  Tensor rows(std::int64_t begin, std::int64_t end) const;
  /// Part of the same storage, from that many bytes on, as another tensor: a place in a block that was
  /// planned.
  Tensor placed(std::size_t offset, const Shape& shape, DType dtype) const;
  /// A copy with storage of its own.
  Tensor clone() const;
  /// The value of a tensor of one element, as f32 (fixed-point: not scaled).
  float item() const;

  /// Of the storage: drawn anew, and never the same twice in a program, when it is made and whenever somebody
  /// asks to write. What was derived from a tensor is good for one of the same version and shape.
  std::uint64_t version() const;
  /// Whether this is the only handle on the storage: nobody else would notice a write.
  bool is_only_handle() const { return storage_.use_count() == 1; }
  /// Whether both handles name the same storage.
  bool same_storage(const Tensor& other) const { return storage_ == other.storage_; }

 private:
  struct Storage {
    std::shared_ptr<std::byte> memory;
    std::atomic<std::uint64_t> version;  ///< several threads may write, each its own rows
  };

  void expect(DType wanted) const;
  void copy_in(const void* source, std::size_t bytes);

  std::shared_ptr<Storage> storage_;
  std::size_t offset_ = 0;  ///< of the first element, in bytes
  Shape shape_;
  DType dtype_ = DType::f32;
  std::optional<FixedPoint> format_;
};

}  // namespace faq
