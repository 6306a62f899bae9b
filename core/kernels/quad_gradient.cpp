#include "core/kernels/quad_gradient.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "core/division.h"
#include "core/kernels/conv_observer.h"
#include "core/kernels/quad_group.h"
#include "core/kernels/simd.h"
#include "core/kernels/streamed.h"
#include "core/parallel.h"
#include "core/profile.h"

namespace faq::kernels {
namespace {

FAQ_SIMD void add_to(float* sums, const float* more, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) sums[i] += more[i];
}

// True if a tile's sums of all groups are computed together: where partial sums of the groups, which would be
// written and read again, are much more to move than the images, and a block of channels of all images stays
// in the cache.
bool groups_wait(const Shape& x, const Shape& weights, const ConvGeometry& geometry, const QuadPlan& plan,
                 std::int64_t groups) {
  const std::int64_t images = x.numel() + conv2d_shape(x, weights, geometry).numel();
  const std::int64_t sums = groups * weights.numel() * static_cast<std::int64_t>(sizeof(float));
  const std::int64_t block = x.numel() / plan.in_channels * plan.block_channels;
  return groups == 1 || (sums > 2 * images && block <= QuadOperands::cache_bytes);
}

}  // namespace

bool QuadGradient::suits(const Shape& x, const Shape& weights, const ConvGeometry& geometry) {
  return geometry.groups == 1 && weights.numel() > 0 &&
         QuadGroup::rows_in_32_bits(conv2d_shape(x, weights, geometry)[2]) > 0;
}

const QuadTiles& QuadGradient::tiles_for(const Shape& x, const Shape& weights, const ConvGeometry& geometry,
                                         std::int64_t groups) {
  const QuadTiles& fastest = quad_tiles();
  if (fastest.pixels == 1) return fastest;
  // Tiles of several pixels are no faster where they multiply mostly zeros.
  const Shape of_group{divided_up(x[0], groups), x[1], x[2], x[3]};
  const QuadGrid grid = QuadGroup::grid_of(conv2d_shape(of_group, weights, geometry),
                                           QuadPlan(weights, geometry, fastest), geometry);
  return grid.share_of_outputs() < least_share_of_outputs ? quad_tiles(1) : fastest;
}

QuadGradient::QuadGradient(const Shape& x, const Shape& weights, const ConvGeometry& geometry,
                           std::int64_t groups, Tensor factors, const QuadTiles& tiles)
    : weights_(weights),
      geometry_(geometry),
      plan_(weights, geometry, tiles),
      tiles_(tiles),
      places_(plan_, std::move(factors)),
      waiting_(groups_wait(x, weights, geometry, plan_, groups) ? groups : 0),
      sums_(groups) {
  check(suits(x, weights, geometry), ErrorKind::internal, "conv2d backward: no quads for ", weights_, ", ",
        geometry_);
}

QuadGradient::~QuadGradient() = default;

void QuadGradient::add(std::int64_t group, const Tensor& x, const RoundedGradient& dy) {
  const Booked booked(Work::convolution);
  check(x.dim(0) > 0, ErrorKind::internal, "conv2d backward: a group of no images");
  check(x.dtype() == DType::u8 || x.dtype() == DType::s8, "conv2d backward: 8-bit gradients with an input ",
        x.dtype());
  const Shape y = conv2d_shape(x.shape(), weights_, geometry_);
  check(dy.values.dtype() == DType::s8 && dy.values.shape() == y, "conv2d backward: gradient ",
        dy.values.dtype(), " ", dy.values.shape(), " for an input of ", x.shape());
  report({ConvPass::backward_weights, x.shape(), weights_, y, geometry_, x.dtype(), DType::f32, DType::s8});
  auto images = std::make_unique<QuadGroup>(x, dy, plan_, geometry_, tiles_);
  if (!waiting_.empty()) {
    waiting_.at(group) = std::move(images);
    return;
  }
  // A group whose neighbour is there is added to it while its sums are in the cache. With several units of
  // rows, a group's own sums come first.
  Tensor sums = images->is_one_unit() ? sums_.take_neighbour(group) : Tensor();
  const bool adds = sums.defined();
  if (!adds) sums = Tensor::empty({plan_.tiles() * plan_.sums()});
  float* out = sums.mutable_data<float>();
  parallel_for(plan_.tiles(), 1, [&](std::int64_t begin, std::int64_t end) {
    QuadGroup::Integers integers;
    images->compute(plan_.tile(begin), end - begin, adds, out + begin * plan_.sums(), integers);
  });
  if (adds) {
    sums_.add_pair(group, std::move(sums));
  } else {
    sums_.add(group, std::move(sums));
  }
}

// What a thread needs besides the sums themselves.
struct QuadGradient::Scratch {
  QuadGroup::Integers integers;
  std::vector<AlignedVector<float>> levels;  ///< of the tree: the second of two nodes that are added
};

void QuadGradient::compute_node(int level, std::int64_t number, const QuadPlan::Tile& begin,
                                std::int64_t count, float* out, Scratch& scratch) const {
  if (level == 0) return waiting_[number]->compute(begin, count, false, out, scratch.integers);
  compute_node(level - 1, 2 * number, begin, count, out, scratch);
  const std::int64_t second = 2 * number + 1;
  if (second << (level - 1) >= std::ssize(waiting_)) return;
  if (level == 1 && waiting_[second]->is_one_unit())
    return waiting_[second]->compute(begin, count, true, out, scratch.integers);
  AlignedVector<float>& more = scratch.levels[level - 1];
  more.resize(static_cast<std::size_t>(count * plan_.sums()));
  compute_node(level - 1, second, begin, count, more.data(), scratch);
  add_to(out, more.data(), count * plan_.sums());
}

void QuadGradient::place_waiting(float* dw) const {
  std::int64_t bytes = 0;
  for (const auto& images : waiting_) {
    check(images != nullptr, ErrorKind::internal, "conv2d backward: a group of images is missing");
    bytes += images->input_bytes();
  }
  const int levels = std::bit_width(waiting_.size() - 1);
  const std::int64_t of_cell = plan_.tiles_of_cell();
  // A block of channels stays in the cache for all outputs; but where all channels do, a thread goes along
  // them, as their weights lie in memory.
  const bool along = bytes <= QuadOperands::cache_bytes;
  // Cells whose tiles share a band of the input, and whose sums stay in the cache until they are placed.
  const std::int64_t share = std::max<std::int64_t>(1, plan_.cells() / (4 * num_threads()));
  const std::int64_t together = along ? 1 : std::clamp<std::int64_t>(32 / of_cell, 1, share);
  const std::int64_t steps = along ? plan_.blocks : divided_up(plan_.output_blocks, together);
  const std::int64_t items = (along ? plan_.output_blocks : plan_.blocks) * steps;
  parallel_for(items, 1, [&](std::int64_t begin, std::int64_t end) {
    AlignedVector<float> sums(static_cast<std::size_t>(together * of_cell * plan_.sums()));
    Scratch scratch;
    scratch.levels.resize(levels);
    std::int64_t outer = begin / steps, step = begin % steps;
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t block = along ? step : outer;
      const std::int64_t first = along ? outer : step * together;
      const std::int64_t past = std::min(first + together, plan_.output_blocks);
      compute_node(levels, 0, {.block = block, .output_block = first}, (past - first) * of_cell, sums.data(),
                   scratch);
      for (std::int64_t output_block = first; output_block < past; ++output_block)
        places_.place(block, output_block, &sums[(output_block - first) * of_cell * plan_.sums()], dw);
      if (++step == steps) step = 0, ++outer;
    }
    end_streamed();
  });
}

Tensor QuadGradient::sum() {
  const Booked booked(Work::convolution);
  if (waiting_.empty()) return places_.placed(sums_.total().data<float>());
  Tensor dw = Tensor::empty(weights_);
  place_waiting(dw.mutable_data<float>());
  return dw;
}

}  // namespace faq::kernels
