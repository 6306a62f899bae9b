#include "core/kernels/quads.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <numeric>

#include "core/kernels/simd.h"
#include "core/parallel.h"

namespace faq::kernels {
namespace {

// One byte of each of four images; exchanged bits of the bytes in `flip`.
FAQ_SIMD void interleave(const std::uint8_t* a, const std::uint8_t* b, const std::uint8_t* c,
                         const std::uint8_t* d, std::uint32_t flip, std::uint32_t* out, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i)
    out[i] = (std::uint32_t{a[i]} | std::uint32_t{b[i]} << 8 | std::uint32_t{c[i]} << 16 |
              std::uint32_t{d[i]} << 24) ^
             flip;
}

// sums[i] += Σ values[pixel·length + i]
FAQ_SIMD void add_pixels(const std::int8_t* values, std::int64_t pixels, std::int64_t length,
                         std::int32_t* sums) {
  for (std::int64_t pixel = 0; pixel < pixels; ++pixel)
    for (std::int64_t i = 0; i < length; ++i) sums[i] += values[pixel * length + i];
}

using Quad = std::array<const std::uint8_t*, 4>;

// The first bytes of four images. Images that there are not read as those of `zeros`.
Quad images_at(const Tensor& images, std::int64_t quad, std::int64_t offset, const std::uint8_t* zeros) {
  const std::int64_t length = images.numel() / images.dim(0);
  Quad at;
  for (std::int64_t i = 0; i < 4; ++i) {
    const std::int64_t image = 4 * quad + i;
    at[i] = image < images.dim(0) ? static_cast<const std::uint8_t*>(images.raw()) + image * length + offset
                                  : zeros;
  }
  return at;
}

void interleave(const Quad& quad, std::int64_t offset, std::uint32_t flip, std::uint32_t* out,
                std::int64_t n) {
  interleave(quad[0] + offset, quad[1] + offset, quad[2] + offset, quad[3] + offset, flip, out, n);
}

std::int64_t quads_of(const Tensor& images) { return (images.dim(0) + 3) / 4; }

// The outputs of a pixel, of which a block may have fewer than `outputs`.
template <int outputs>
void copy_block(const std::uint32_t* pixels, std::int64_t width, std::int64_t channels, std::int64_t first,
                std::uint32_t* out) {
  const std::int64_t n = std::min<std::int64_t>(outputs, channels - first);
  for (std::int64_t pixel = 0; pixel < width; ++pixel, out += outputs) {
    const std::uint32_t* from = pixels + pixel * channels + first;
    if (n == outputs) {
      std::memcpy(out, from, outputs * sizeof *out);
    } else {
      std::memcpy(out, from, static_cast<std::size_t>(n) * sizeof *out);
      std::memset(out + n, 0, static_cast<std::size_t>(outputs - n) * sizeof *out);
    }
  }
}

void copy_block(std::int64_t outputs, const std::uint32_t* pixels, std::int64_t width, std::int64_t channels,
                std::int64_t first, std::uint32_t* out) {
  switch (outputs) {
    case 6:
      return copy_block<6>(pixels, width, channels, first, out);
    case 8:
      return copy_block<8>(pixels, width, channels, first, out);
    case 12:
      return copy_block<12>(pixels, width, channels, first, out);
    default:
      return copy_block<24>(pixels, width, channels, first, out);
  }
}

}  // namespace

QuadInput::QuadInput(const Tensor& x, const Shape& dy, const QuadPlan& plan, const ConvGeometry& geometry)
    : plan_(plan),
      dilation_(geometry.dilation),
      quads_(quads_of(x)),
      out_height_(dy[1]),
      out_width_(dy[2]),
      // A single tap skips what lies between outputs.
      step_(plan.height == 1 && plan.width == 1 ? geometry.stride : 1),
      stride_(geometry.stride / step_),
      height_((dy[1] - 1) * stride_ + (plan.height - 1) * dilation_.height + 1),
      width_((dy[2] - 1) * stride_ + (plan.width - 1) * dilation_.width + 1),
      is_shifted_(x.dtype() == DType::s8) {
  // A tile may read beyond the last run; those values belong to no weights.
  const std::int64_t slack = plan.vectors * quad_lanes * 4;
  bytes_ = Tensor::empty({quads_ * height_ * width_ * plan.in_channels * 4 + slack}, DType::u8);
  std::memset(bytes_.mutable_data<std::uint8_t>() + bytes_.numel() - slack, 0,
              static_cast<std::size_t>(slack));
  fill(x, geometry);
  data_ = bytes_.data<std::uint8_t>();
}

void QuadInput::fill(const Tensor& x, const ConvGeometry& geometry) {
  const std::int64_t channels = plan_.in_channels, row_length = x.dim(2) * channels;
  const std::uint32_t flip = is_shifted_ ? 0x80808080u : 0;
  const std::vector<std::uint8_t> zeros(static_cast<std::size_t>(row_length));
  auto* out = reinterpret_cast<std::uint32_t*>(bytes_.mutable_data<std::uint8_t>());
  // Of the columns that are kept, those that are inside the image.
  const auto first_inside = [&](std::int64_t border) { return (border + step_ - 1) / step_; };
  const std::int64_t left = std::min(first_inside(geometry.padding.left), width_);
  const std::int64_t right = std::clamp((x.dim(2) - 1 + geometry.padding.left) / step_ + 1, left, width_);
  parallel_for(quads_ * height_, 4, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t row = i % height_ * step_ - geometry.padding.top;
      const bool is_inside = row >= 0 && row < x.dim(1);
      const std::int64_t from = is_inside ? left : width_, past = is_inside ? right : width_;
      const Quad quad = is_inside ? images_at(x, i / height_, row * row_length, zeros.data()) : Quad{};
      const auto row_of = [&](std::int64_t block) {
        const std::int64_t first_channel = block * plan_.block_channels;
        return out + first_channel * quads_ * height_ * width_ + i * width_ * plan_.channels_of(block);
      };
      for (std::int64_t block = 0; block < plan_.blocks; ++block) {
        const std::int64_t here = plan_.channels_of(block);
        std::fill_n(row_of(block), from * here, flip);
        std::fill_n(row_of(block) + past * here, (width_ - past) * here, flip);
      }
      if (from < past && plan_.blocks == 1 && step_ == 1) {
        interleave(quad, (from - geometry.padding.left) * channels, flip, row_of(0) + from * channels,
                   (past - from) * channels);
        continue;
      }
      for (std::int64_t column = from; column < past; ++column) {
        const std::int64_t pixel = (column * step_ - geometry.padding.left) * channels;
        for (std::int64_t block = 0; block < plan_.blocks; ++block) {
          const std::int64_t here = plan_.channels_of(block);
          interleave(quad, pixel + block * plan_.block_channels, flip, row_of(block) + column * here, here);
        }
      }
    }
  });
}

const std::uint8_t* QuadInput::at(const QuadPlan::Tile& tile) const {
  const std::int64_t here = plan_.channels_of(tile.block);
  const std::int64_t block = tile.block * plan_.block_channels * quads_ * height_ * width_;
  const std::int64_t pixel = tile.row * dilation_.height * width_ + tile.column * dilation_.width;
  return data_ + 4 * (block + pixel * here + tile.piece * plan_.vectors * quad_lanes);
}

std::vector<std::int64_t> QuadInput::rows_of(std::int64_t block) const {
  std::vector<std::int64_t> rows;
  rows.reserve(static_cast<std::size_t>(quads_ * out_height_ + 1));
  for (std::int64_t quad = 0; quad < quads_; ++quad) {
    for (std::int64_t y = 0; y < out_height_; ++y)
      rows.push_back((quad * height_ + y * stride_) * width_ * plan_.channels_of(block) * 4);
  }
  rows.push_back(rows.back());
  return rows;
}

QuadOutput::QuadOutput(const Tensor& dy, const QuadPlan& plan)
    : rows_(quads_of(dy) * dy.dim(1)), width_(dy.dim(2)), outputs_(plan.outputs) {
  const std::int64_t channels = dy.dim(3), row_length = width_ * channels;
  bytes_ = Tensor::empty({plan.output_blocks * rows_ * width_ * outputs_ * 4}, DType::s8);
  auto* out = reinterpret_cast<std::uint32_t*>(bytes_.mutable_data<std::int8_t>());
  data_ = bytes_.data<std::int8_t>();
  const std::vector<std::uint8_t> zeros(static_cast<std::size_t>(row_length));
  parallel_for(rows_, 4, [&](std::int64_t begin, std::int64_t end) {
    std::vector<std::uint32_t> pixels(static_cast<std::size_t>(row_length));
    for (std::int64_t row = begin; row < end; ++row) {
      const Quad quad = images_at(dy, row / dy.dim(1), row % dy.dim(1) * row_length, zeros.data());
      interleave(quad, 0, 0, pixels.data(), row_length);
      for (std::int64_t block = 0; block < plan.output_blocks; ++block)
        copy_block(outputs_, pixels.data(), width_, channels, block * outputs_,
                   out + (block * rows_ + row) * width_ * outputs_);
    }
  });
}

std::vector<std::int32_t> QuadOutput::sums(std::int64_t output_block, std::int64_t begin,
                                           std::int64_t end) const {
  std::vector<std::int32_t> of_images(static_cast<std::size_t>(4 * outputs_)), sums;
  add_pixels(at(output_block, begin), (end - begin) * width_, 4 * outputs_, of_images.data());
  for (std::int64_t o = 0; o < outputs_; ++o)
    sums.push_back(std::accumulate(&of_images[4 * o], &of_images[4 * o] + 4, 0));
  return sums;
}

}  // namespace faq::kernels
