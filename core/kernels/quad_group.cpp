#include "core/kernels/quad_group.h"

#include <algorithm>

#include "core/division.h"
#include "core/kernels/in_tiles.h"
#include "core/kernels/scaled_sums.h"
#include "core/kernels/simd.h"
#include "core/parallel.h"

namespace faq::kernels {
namespace {

FAQ_SIMD void subtract(std::int32_t* sums, std::int32_t value, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) sums[i] -= value;
}

}  // namespace

QuadGroup::QuadGroup(const Tensor& x, const RoundedGradient& dy, const QuadPlan& plan,
                     const ConvGeometry& geometry, const QuadTiles& tiles)
    : plan_(plan),
      operands_(x, dy.values, plan, geometry, tiles, rows_in_32_bits(dy.values.dim(2))),
      scale_(dy.scale),
      tiles_(tiles) {
  for (std::int64_t block = 0; block < plan.blocks; ++block)
    kernels_.push_back(tiles.tile({plan.vectors_of(block), plan.outputs}));
  if (operands_.input().is_shifted()) sum_outputs();
}

QuadGrid QuadGroup::grid_of(const Shape& y, const QuadPlan& plan, const ConvGeometry& geometry) {
  return {y, plan, geometry, rows_in_32_bits(y[2]), QuadOperands::cache_bytes};
}

void QuadGroup::compute(const QuadPlan::Tile& begin, std::int64_t count, bool adds, float* out,
                        Integers& integers) const {
  const std::int64_t band = operands_.lines_of_band(), unit = lines_of_unit();
  const InTiles in_tiles(tiles_);
  for (std::int64_t first = 0; first < grid().lines; first += unit) {
    const std::int64_t past = std::min(first + unit, grid().lines);
    // With one band a tile is finished at once.
    const bool at_once = past - first <= band;
    const std::int64_t kept = at_once ? 1 : count;
    integers.resize(static_cast<std::size_t>(kept * plan_.sums()));
    for (std::int64_t from = first; from < past; from += band) {
      const std::int64_t to = std::min(from + band, past);
      QuadPlan::Tile tile = begin;
      for (std::int64_t i = 0; i < count; ++i, plan_.advance(tile)) {
        std::int32_t* sums = &integers[(at_once ? 0 : i) * plan_.sums()];
        kernels_[tile.block](operands_.pixels(tile, from, to, from > first, sums));
        if (to == past) finish(tile, first / unit, adds || first > 0, sums, out + i * plan_.sums());
      }
    }
  }
}

void QuadGroup::finish(const QuadPlan::Tile& tile, std::int64_t unit, bool adds, std::int32_t* sums,
                       float* out) const {
  if (operands_.input().is_shifted()) {
    const std::int64_t length = plan_.vectors_of(tile.block) * quad_lanes;
    const std::vector<std::int32_t>& of_output = of_outputs_[unit * plan_.output_blocks + tile.output_block];
    for (int o = 0; o < plan_.outputs; ++o) subtract(sums + o * length, 128 * of_output[o], length);
  }
  if (adds) {
    add_scaled_sums(sums, scale_, out, plan_.sums());
  } else {
    scale_sums(sums, scale_, out, plan_.sums());
  }
}

void QuadGroup::sum_outputs() {
  const std::int64_t unit = lines_of_unit();
  const std::int64_t units = divided_up(grid().lines, unit);
  of_outputs_.resize(static_cast<std::size_t>(units * plan_.output_blocks));
  parallel_for(std::ssize(of_outputs_), 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t first = i / plan_.output_blocks * unit;
      of_outputs_[i] =
          operands_.output().sums(i % plan_.output_blocks, first, std::min(first + unit, grid().lines));
    }
  });
}

}  // namespace faq::kernels
