#include "core/kernels/channels_first.h"

#include <algorithm>
#include <cstdint>

#include "core/division.h"
#include "core/kernels/block.h"
#include "core/parallel.h"
#include "core/profile.h"

namespace faq::kernels {
namespace {

// Of each image, out[j][i] = in[i][j].
template <class T>
void transpose_images(const void* from, void* to, std::int64_t images, std::int64_t rows,
                      std::int64_t columns) {
  constexpr std::int64_t block = 64;  // columns whose values of a few rows stay in the first-level cache
  const auto* in = static_cast<const T*>(from);
  auto* out = static_cast<T*>(to);
  const std::int64_t blocks = divided_up(columns, block);
  parallel_for(images * blocks, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t n = begin; n < end; ++n) {
      const std::int64_t image = n / blocks * rows * columns, first = n % blocks * block;
      for (std::int64_t i = 0; i < rows; ++i)
        for (std::int64_t j = first; j < std::min(first + block, columns); ++j)
          out[image + j * rows + i] = in[image + i * columns + j];
    }
  });
}

Tensor transposed(const Tensor& x, const Shape& shape, std::int64_t rows, std::int64_t columns) {
  const Booked booked(Work::fused);
  Tensor out = like(x, shape, x.dtype());
  switch (size_of(x.dtype())) {
    case 1:
      transpose_images<std::uint8_t>(x.raw(), out.mutable_raw(), x.dim(0), rows, columns);
      break;
    case 2:
      transpose_images<std::uint16_t>(x.raw(), out.mutable_raw(), x.dim(0), rows, columns);
      break;
    default:
      transpose_images<std::uint32_t>(x.raw(), out.mutable_raw(), x.dim(0), rows, columns);
  }
  return out;
}

}  // namespace

Tensor channels_first(const Tensor& x) {
  check(x.rank() == 4, "channels first: expected images N,H,W,C, got ", x.shape());
  return transposed(x, {x.dim(0), x.dim(3), x.dim(1), x.dim(2)}, x.dim(1) * x.dim(2), x.dim(3));
}

Tensor channels_last(const Tensor& x) {
  check(x.rank() == 4, "channels last: expected images N,C,H,W, got ", x.shape());
  return transposed(x, {x.dim(0), x.dim(2), x.dim(3), x.dim(1)}, x.dim(1), x.dim(2) * x.dim(3));
}

}  // namespace faq::kernels
