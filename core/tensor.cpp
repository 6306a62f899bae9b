#include "core/tensor.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstring>

#include "core/allocator.h"

namespace faq {
namespace {

// One counter for all tensors. So when a tensor takes the place of another one, the versions differ.
std::uint64_t next_version() {
  static std::atomic<std::uint64_t> last = 0;
  return last.fetch_add(1, std::memory_order_relaxed) + 1;
}

}  // namespace

Tensor Tensor::empty(const Shape& shape, DType dtype) {
  Tensor t;
  t.shape_ = shape;
  t.dtype_ = dtype;
  t.storage_ = std::make_shared<Storage>();
  t.storage_->memory = allocate(t.bytes());
  t.storage_->version = next_version();
  return t;
}

Tensor Tensor::empty(const Shape& shape, DType dtype, const FixedPoint& format) {
  Tensor t = empty(shape, dtype);
  t.format_ = format;
  return t;
}

Tensor Tensor::zeros(const Shape& shape, DType dtype) {
  Tensor t = empty(shape, dtype);
  std::memset(t.mutable_raw(), 0, t.bytes());
  return t;
}

Tensor Tensor::full(const Shape& shape, float value) {
  Tensor t = empty(shape, DType::f32);
  std::ranges::fill(t.mutable_span<float>(), value);
  return t;
}

const FixedPoint& Tensor::fixed_point() const {
  check(format_.has_value(), "tensor: ", dtype_, " ", shape_, " carries no scale");
  return *format_;
}

const void* Tensor::raw() const {
  check(defined(), "tensor: no storage (default-constructed)");
  return storage_->memory.get() + offset_;
}

void* Tensor::mutable_raw() {
  check(defined(), "tensor: no storage (default-constructed)");
  storage_->version.store(next_version(), std::memory_order_relaxed);
  return storage_->memory.get() + offset_;
}

Tensor Tensor::reshaped(const Shape& shape) const {
  check(shape.numel() == numel(), "reshape: ", shape_, " has ", numel(), " elements, ", shape, " has ",
        shape.numel());
  Tensor t = *this;
  t.shape_ = shape;
  return t;
}

Tensor Tensor::rows(std::int64_t begin, std::int64_t end) const {
  check(rank() >= 1 && 0 <= begin && begin <= end && end <= dim(0), "rows ", begin, " to ", end, " of ",
        shape_);
  Tensor t = *this;
  t.shape_ = shape_.with(0, end - begin);
  t.offset_ +=
      static_cast<std::size_t>(begin * (numel() / std::max<std::int64_t>(dim(0), 1))) * size_of(dtype_);
  return t;
}

Tensor Tensor::placed(std::size_t offset, const Shape& shape, DType dtype) const {
  Tensor t = *this;
  t.shape_ = shape;
  t.dtype_ = dtype;
  t.format_.reset();
  t.offset_ += offset;
  check(offset % size_of(dtype) == 0 && offset + t.bytes() <= bytes(), "tensor: ", dtype, " ", shape,
        " at byte ", offset, " of ", bytes());
  return t;
}

Tensor Tensor::clone() const {
  if (!defined()) return {};
  Tensor t = empty(shape_, dtype_);
  t.format_ = format_;
  t.copy_in(raw(), bytes());
  return t;
}

float Tensor::item() const {
  check(numel() == 1, "item: expected one element, got ", shape_);
  switch (dtype_) {
    case DType::f32:
      return *data<float>();
    case DType::s32:
      return static_cast<float>(*data<std::int32_t>());
    case DType::s16:
      return *data<std::int16_t>();
    case DType::s8:
      return *data<std::int8_t>();
    case DType::u8:
      return *data<std::uint8_t>();
    case DType::bf16:
      return std::bit_cast<float>(std::uint32_t{data<bfloat16>()->bits} << 16);
  }
  fail(ErrorKind::internal, "item: not available for ", dtype_);
}

std::uint64_t Tensor::version() const {
  check(defined(), "tensor: no storage (default-constructed)");
  return storage_->version;
}

void Tensor::expect(DType wanted) const {
  check(dtype_ == wanted, "tensor: expected ", wanted, ", got ", dtype_, " ", shape_);
}

void Tensor::copy_in(const void* source, std::size_t size) {
  check(size == bytes(), "tensor: expected ", bytes(), " bytes for ", shape_, ", got ", size);
  if (size > 0) std::memcpy(mutable_raw(), source, size);  // nothing may come from nowhere
}

}  // namespace faq
