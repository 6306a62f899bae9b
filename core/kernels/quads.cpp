#include "core/kernels/quads.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <numeric>

#include "core/division.h"
#include "core/kernels/simd.h"
#include "core/kernels/used_bits.h"
#include "core/parallel.h"

namespace faq::kernels {
namespace {

// One byte of each of four images; exchanged bits of the bytes in `flip`.
FAQ_SIMD void interleave_four(const std::uint8_t* a, const std::uint8_t* b, const std::uint8_t* c,
                              const std::uint8_t* d, std::uint32_t flip, std::uint32_t* out, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i)
    out[i] = (std::uint32_t{a[i]} | std::uint32_t{b[i]} << 8 | std::uint32_t{c[i]} << 16 |
              std::uint32_t{d[i]} << 24) ^
             flip;
}

// sums[i] += Σ values[k·length + i]
FAQ_SIMD void add_rows(const std::int8_t* values, std::int64_t count, std::int64_t length,
                       std::int32_t* sums) {
  for (std::int64_t k = 0; k < count; ++k)
    for (std::int64_t i = 0; i < length; ++i) sums[i] += values[k * length + i];
}

// One bf16 of each of two images.
FAQ_SIMD void interleave_two(const std::uint16_t* a, const std::uint16_t* b, std::uint32_t* out,
                             std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) out[i] = std::uint32_t{a[i]} | std::uint32_t{b[i]} << 16;
}

// Values of the images of a quad.
struct Quad {
  std::array<const std::byte*, 4> images;
  bool are_two;

  // `flip`: of bytes.
  void interleave(std::int64_t offset, std::uint32_t flip, std::uint32_t* out, std::int64_t n) const {
    if (are_two) {
      const auto at = [&](int i) { return reinterpret_cast<const std::uint16_t*>(images[i]) + offset; };
      interleave_two(at(0), at(1), out, n);
    } else {
      const auto at = [&](int i) { return reinterpret_cast<const std::uint8_t*>(images[i]) + offset; };
      interleave_four(at(0), at(1), at(2), at(3), flip, out, n);
    }
  }
};

// The values from `offset` on. Images that there are not read as `zeros`.
Quad images_at(const Tensor& images, std::int64_t quad, std::int64_t offset,
               const std::vector<std::uint16_t>& zeros) {
  const std::int64_t length = images.numel() / images.dim(0);
  const auto bytes = static_cast<std::int64_t>(size_of(images.dtype()));
  const std::int64_t of_quad = 4 / bytes;
  Quad at{{}, of_quad == 2};
  for (std::int64_t i = 0; i < of_quad; ++i) {
    const std::int64_t image = of_quad * quad + i;
    at.images[i] = image < images.dim(0)
                       ? static_cast<const std::byte*>(images.raw()) + (image * length + offset) * bytes
                       : reinterpret_cast<const std::byte*>(zeros.data());
  }
  return at;
}

}  // namespace

QuadInput::QuadInput(const Tensor& x, const QuadPlan& plan, const QuadGrid& grid,
                     const ConvGeometry& geometry)
    : plan_(plan), grid_(grid), dilation_(geometry.dilation), is_shifted_(x.dtype() == DType::s8) {
  // A tile may read beyond the last run, and beyond the last line up to the width of lines. Those values
  // belong to no weights, or meet zeros.
  const std::int64_t last = (grid.line(grid.lines - 1).rows - 1) * grid.width + grid.out_width;
  const std::int64_t slack = plan.pieces * plan.vectors * quad_lanes * 4 +
                             (grid.line_width - last) * grid.stride * plan.block_channels * 4;
  bytes_ = Tensor::empty({grid.quads * grid.height * grid.width * plan.in_channels * 4 + slack}, DType::u8);
  std::memset(bytes_.mutable_data<std::uint8_t>() + bytes_.numel() - slack, 0,
              static_cast<std::size_t>(slack));
  fill(x, geometry);
  data_ = bytes_.data<std::uint8_t>();
}

void QuadInput::fill(const Tensor& x, const ConvGeometry& geometry) {
  const std::int64_t channels = plan_.in_channels, row_length = x.dim(2) * channels;
  const std::uint32_t flip = is_shifted_ ? 0x80808080u : 0;
  const std::vector<std::uint16_t> zeros(static_cast<std::size_t>(row_length));
  auto* out = reinterpret_cast<std::uint32_t*>(bytes_.mutable_data<std::uint8_t>());
  // Of the columns that are kept, those that are inside the image.
  const auto first_inside = [&](std::int64_t border) { return divided_up(border, grid_.step); };
  const std::int64_t left = std::min(first_inside(geometry.padding.left), grid_.width);
  const std::int64_t right =
      std::clamp((x.dim(2) - 1 + geometry.padding.left) / grid_.step + 1, left, grid_.width);
  parallel_for(grid_.quads * grid_.height, 4, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t row = i % grid_.height * grid_.step - geometry.padding.top;
      const bool is_inside = row >= 0 && row < x.dim(1);
      const std::int64_t from = is_inside ? left : grid_.width, past = is_inside ? right : grid_.width;
      const Quad quad = is_inside ? images_at(x, i / grid_.height, row * row_length, zeros) : Quad{};
      const auto row_of = [&](std::int64_t block) {
        const std::int64_t first_channel = block * plan_.block_channels;
        return out + first_channel * grid_.quads * grid_.height * grid_.width +
               i * grid_.width * plan_.channels_of(block);
      };
      for (std::int64_t block = 0; block < plan_.blocks; ++block) {
        const std::int64_t here = plan_.channels_of(block);
        std::fill_n(row_of(block), from * here, flip);
        std::fill_n(row_of(block) + past * here, (grid_.width - past) * here, flip);
      }
      if (from < past && plan_.blocks == 1 && grid_.step == 1) {
        quad.interleave((from - geometry.padding.left) * channels, flip, row_of(0) + from * channels,
                        (past - from) * channels);
        continue;
      }
      for (std::int64_t column = from; column < past; ++column) {
        const std::int64_t pixel = (column * grid_.step - geometry.padding.left) * channels;
        for (std::int64_t block = 0; block < plan_.blocks; ++block) {
          const std::int64_t here = plan_.channels_of(block);
          quad.interleave(pixel + block * plan_.block_channels, flip, row_of(block) + column * here, here);
        }
      }
    }
  });
}

bool QuadInput::are_nibbles() const { return !is_shifted_ && used_bits(data_, bytes()) <= 15; }

const std::uint8_t* QuadInput::at(const QuadPlan::Tile& tile) const {
  const std::int64_t here = plan_.channels_of(tile.block);
  const std::int64_t block = tile.block * plan_.block_channels * grid_.quads * grid_.height * grid_.width;
  const std::int64_t pixel = tile.row * dilation_.height * grid_.width + tile.column * dilation_.width;
  return data_ + 4 * (block + pixel * here + tile.piece * plan_.vectors * quad_lanes);
}

std::vector<std::int64_t> QuadInput::lines_of(std::int64_t block) const {
  std::vector<std::int64_t> lines;
  lines.reserve(static_cast<std::size_t>(grid_.lines + 1));
  const std::int64_t row_bytes = grid_.width * plan_.channels_of(block) * 4;
  // Rows of the outputs of the images before, and rows that are kept of these.
  std::int64_t outputs_before = 0, kept_before = 0;
  QuadGrid::Line line = grid_.line(0);
  for (std::int64_t i = 0; i < grid_.lines; ++i, grid_.advance(line)) {
    for (; line.first_row >= outputs_before + grid_.out_height; kept_before += grid_.height)
      outputs_before += grid_.out_height;
    lines.push_back((kept_before + (line.first_row - outputs_before) * grid_.stride) * row_bytes);
  }
  lines.push_back(lines.back());
  return lines;
}

QuadOutput::QuadOutput(const Tensor& dy, const QuadPlan& plan, const QuadGrid& grid, const QuadTileSet& tiles)
    : grid_(grid), outputs_(plan.outputs), pixels_(plan.pixels) {
  const std::int64_t channels = dy.dim(3), row_length = grid.out_width * channels, width = grid.line_width;
  bytes_ = Tensor::empty({plan.output_blocks * grid.lines * width * outputs_ * 4}, DType::s8);
  auto* out = reinterpret_cast<std::uint32_t*>(bytes_.mutable_data<std::int8_t>());
  data_ = bytes_.data<std::int8_t>();
  const std::vector<std::uint16_t> zeros(static_cast<std::size_t>(row_length));
  parallel_for(grid.lines, std::max<std::int64_t>(1, 4 / grid.rows_of_line), [&](auto begin, auto end) {
    // The pixels of a line; what lies between rows stays zero.
    std::vector<std::uint32_t> pixels(static_cast<std::size_t>(width * channels));
    QuadGrid::Line line = grid.line(begin);
    for (std::int64_t number = begin; number < end; ++number, grid.advance(line)) {
      for (std::int64_t i = 0; i < line.rows; ++i) {
        const std::int64_t row = line.first_row + i;
        const Quad quad = images_at(dy, row / grid.out_height, row % grid.out_height * row_length, zeros);
        quad.interleave(0, 0, &pixels[i * grid.width * channels], row_length);
      }
      if (line.rows < grid.rows_of_line)
        std::fill(pixels.begin() + line.rows * grid.width * channels, pixels.end(), 0u);
      for (std::int64_t block = 0; block < plan.output_blocks; ++block)
        tiles.pack({.dy = &pixels[block * outputs_],
                    .width = width,
                    .stride = channels,
                    .outputs = outputs_,
                    .present = std::min(outputs_, channels - block * outputs_),
                    .out = out + (block * grid.lines + number) * width * outputs_});
    }
  });
}

std::vector<std::int32_t> QuadOutput::sums(std::int64_t output_block, std::int64_t begin,
                                           std::int64_t end) const {
  const std::int64_t of_output = pixels_ * 4;
  std::vector<std::int32_t> all(static_cast<std::size_t>(outputs_ * of_output)), sums;
  add_rows(at(output_block, begin), (end - begin) * grid_.line_width / pixels_, std::ssize(all), all.data());
  for (std::int64_t o = 0; o < outputs_; ++o)
    sums.push_back(std::accumulate(&all[o * of_output], &all[o * of_output] + of_output, 0));
  return sums;
}

QuadOperands::QuadOperands(const Tensor& x, const Tensor& dy, const QuadPlan& plan,
                           const ConvGeometry& geometry, const QuadTileSet& tiles, std::int64_t row_limit)
    : grid_(dy.shape(), plan, geometry, row_limit, cache_bytes),
      input_(x, plan, grid_, geometry),
      output_(dy, plan, grid_, tiles),
      are_nibbles_(tiles.wants_nibbles && input_.are_nibbles()) {
  for (std::int64_t block = 0; block < plan.blocks; ++block) lines_.push_back(input_.lines_of(block));
}

}  // namespace faq::kernels
