#include "core/kernels/quad_gradient.h"

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "core/aligned_vector.h"
#include "core/kernels/conv_observer.h"
#include "core/kernels/quads.h"
#include "core/kernels/scaled_sums.h"
#include "core/kernels/simd.h"
#include "core/kernels/streamed.h"
#include "core/parallel.h"
#include "core/profile.h"

namespace faq::kernels {
namespace {

FAQ_SIMD void subtract(std::int32_t* sums, std::int32_t value, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) sums[i] -= value;
}

FAQ_SIMD void multiply(const float* in, float factor, std::int64_t n, float* out) {
  for (std::int64_t i = 0; i < n; ++i) out[i] = in[i] * factor;
}

// out[i] = in[places[i]]
FAQ_SIMD void gather(const float* in, const std::int32_t* places, std::int64_t n, float* out) {
  for (std::int64_t i = 0; i < n; ++i) out[i] = in[places[i]];
}

// For each weight of an output, in their order: where its sum is among those of a cell's tiles.
std::vector<std::int32_t> places_of(const QuadPlan& plan, std::int64_t block) {
  const std::int64_t area = plan.height * plan.width, channels = plan.channels_of(block);
  const std::int64_t length = plan.vectors_of(block) * quad_lanes;
  const std::int64_t run = plan.width / plan.columns * channels;
  std::vector<std::int32_t> places(static_cast<std::size_t>(channels * area));
  QuadPlan::Tile tile = plan.tile(plan.cell(block, 0) * plan.tiles_of_cell());
  for (std::int64_t number = 0; number < plan.tiles_of_cell(); ++number, plan.advance(tile)) {
    const std::int64_t first = tile.piece * plan.vectors * quad_lanes;
    for (std::int64_t i = first; i < std::min(first + length, run); ++i) {
      const std::int64_t column = tile.column + i / channels, channel = i % channels;
      places[channel * area + tile.row * plan.width + column] =
          static_cast<std::int32_t>(number * plan.sums() + i - first);
    }
  }
  return places;
}

// Of a second-level cache of 1 MB.
constexpr std::int64_t cache_bytes = 3 << 17;

// Gradients of so many weights are not in the caches when the optimizer reads them.
constexpr std::int64_t streamed_weights = 1 << 20;

// Rows of the outputs whose products fit into 32 bits.
std::int64_t rows_in_32_bits(std::int64_t width) { return max_quad_products / (4 * width); }

// The sums of a group of images, tile after tile.
class GroupSum {
 public:
  GroupSum(const Tensor& x, const RoundedGradient& dy, const QuadPlan& plan, const ConvGeometry& geometry,
           const QuadTiles& tiles)
      : plan_(plan),
        input_(x, dy.values.shape(), plan, geometry),
        output_(dy.values, plan),
        scale_(dy.scale) {
    for (std::int64_t block = 0; block < plan.blocks; ++block) {
      rows_.push_back(input_.rows_of(block));
      kernels_.push_back(tiles.tile({plan.vectors_of(block), plan.outputs}));
    }
    if (input_.is_shifted()) sum_outputs();
  }

  /// True if the products of all rows fit into 32 bits.
  bool is_one_unit() const { return output_.rows() <= rows_in_32_bits(output_.width()); }

  /// The integer sums of tiles; a thread uses its own again.
  using Sums = AlignedVector<std::int32_t>;

  /// Computes `count` tiles into `out`, or adds them to it.
  void compute(const QuadPlan::Tile& begin, std::int64_t count, bool adds, float* out, Sums& sums) const {
    // What the tiles of a block of channels read again and again stays in the cache.
    const std::int64_t band = std::max<std::int64_t>(1, cache_bytes / input_.row_bytes());
    const std::int64_t unit = rows_in_32_bits(output_.width());
    for (std::int64_t first = 0; first < output_.rows(); first += unit) {
      const std::int64_t past = std::min(first + unit, output_.rows());
      // With one band a tile is finished at once.
      const bool at_once = past - first <= band;
      const std::int64_t kept = at_once ? 1 : count;
      sums.resize(static_cast<std::size_t>(kept * plan_.sums()));
      if (!at_once) std::ranges::fill(sums, 0);
      for (std::int64_t from = first; from < past; from += band) {
        const std::int64_t to = std::min(from + band, past);
        QuadPlan::Tile tile = begin;
        for (std::int64_t i = 0; i < count; ++i, plan_.advance(tile)) {
          std::int32_t* of_tile = &sums[(at_once ? 0 : i) * plan_.sums()];
          if (at_once) std::fill_n(of_tile, plan_.sums(), 0);
          run(tile, from, to, of_tile);
          if (to == past) finish(tile, first / unit, adds || first > 0, of_tile, out + i * plan_.sums());
        }
      }
    }
  }

  /// Computes all tiles, and calls place(block, output block, sums) for each cell. A block of channels stays
  /// in the cache for all outputs; but where all channels do, a thread goes along them, as their weights lie
  /// in memory.
  template <class Place>
  void for_each_cell(Place place) const {
    const std::int64_t of_cell = plan_.tiles_of_cell();
    const bool along = input_.bytes() <= cache_bytes;
    // Cells whose tiles share a band of the input, and whose sums stay in the cache until they are placed.
    const std::int64_t share = std::max<std::int64_t>(1, plan_.cells() / (4 * num_threads()));
    const std::int64_t together = along ? 1 : std::clamp<std::int64_t>(32 / of_cell, 1, share);
    const std::int64_t steps = along ? plan_.blocks : (plan_.output_blocks + together - 1) / together;
    parallel_for((along ? plan_.output_blocks : plan_.blocks) * steps, 1,
                 [&](std::int64_t begin, std::int64_t end) {
                   AlignedVector<float> sums(static_cast<std::size_t>(together * of_cell * plan_.sums()));
                   Sums integers;
                   std::int64_t outer = begin / steps, step = begin % steps;
                   for (std::int64_t i = begin; i < end; ++i) {
                     const std::int64_t block = along ? step : outer;
                     const std::int64_t first = along ? outer : step * together;
                     const std::int64_t past = std::min(first + together, plan_.output_blocks);
                     compute({block, first, 0, 0, 0}, (past - first) * of_cell, false, sums.data(), integers);
                     for (std::int64_t output_block = first; output_block < past; ++output_block)
                       place(block, output_block, &sums[(output_block - first) * of_cell * plan_.sums()]);
                     if (++step == steps) step = 0, ++outer;
                   }
                   end_streamed();
                 });
  }

 private:
  void run(const QuadPlan::Tile& tile, std::int64_t from, std::int64_t to, std::int32_t* sums) const {
    const bool are_one = input_.has_joined_rows();
    kernels_[tile.block]({.x = input_.at(tile),
                          .rows = &rows_[tile.block][from],
                          .count = are_one ? 1 : to - from,
                          .width = are_one ? (to - from) * output_.width() : output_.width(),
                          .pixel = input_.pixel(tile.block),
                          .dy = output_.at(tile.output_block, from),
                          .sums = sums});
  }

  // What the shift of a signed input adds to the sums: by unit of rows and block of outputs.
  void sum_outputs() {
    const std::int64_t unit = rows_in_32_bits(output_.width());
    const std::int64_t units = (output_.rows() + unit - 1) / unit;
    of_outputs_.resize(static_cast<std::size_t>(units * plan_.output_blocks));
    parallel_for(std::ssize(of_outputs_), 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        const std::int64_t first = i / plan_.output_blocks * unit;
        of_outputs_[i] = output_.sums(i % plan_.output_blocks, first, std::min(first + unit, output_.rows()));
      }
    });
  }

  void finish(const QuadPlan::Tile& tile, std::int64_t unit, bool adds, std::int32_t* sums,
              float* out) const {
    if (input_.is_shifted()) {
      const std::int64_t length = plan_.vectors_of(tile.block) * quad_lanes;
      const std::vector<std::int32_t>& of_output =
          of_outputs_[unit * plan_.output_blocks + tile.output_block];
      for (int o = 0; o < plan_.outputs; ++o) subtract(sums + o * length, 128 * of_output[o], length);
    }
    if (adds) {
      add_scaled_sums(sums, scale_, out, plan_.sums());
    } else {
      scale_sums(sums, scale_, out, plan_.sums());
    }
  }

  const QuadPlan& plan_;
  QuadInput input_;
  QuadOutput output_;
  float scale_;
  std::vector<std::vector<std::int64_t>> rows_;  ///< by block
  std::vector<QuadTile> kernels_;                ///< by block
  std::vector<std::vector<std::int32_t>> of_outputs_;
};

}  // namespace

bool QuadGradient::suits(const Shape& x, const Shape& weights, const ConvGeometry& geometry) {
  return geometry.groups == 1 && weights.numel() > 0 &&
         rows_in_32_bits(conv2d_shape(x, weights, geometry)[2]) > 0;
}

QuadGradient::QuadGradient(const Shape& weights, const ConvGeometry& geometry, std::int64_t groups,
                           Tensor factors, const QuadTiles& tiles)
    : weights_(weights),
      geometry_(geometry),
      plan_(weights, geometry),
      groups_(groups),
      factors_(std::move(factors)),
      tiles_(tiles),
      whole_(places_of(plan_, 0)),
      last_(places_of(plan_, plan_.blocks - 1)),
      sums_(groups) {
  check(!factors_ || factors_.numel() == plan_.out_channels, "conv2d backward: ", factors_.shape(),
        " factors for ", weights_);
}

void QuadGradient::add(std::int64_t group, const Tensor& x, const RoundedGradient& dy) {
  const Booked booked(Work::convolution);
  check(x.dtype() == DType::u8 || x.dtype() == DType::s8, "conv2d backward: 8-bit gradients with an input ",
        x.dtype());
  const Shape y = conv2d_shape(x.shape(), weights_, geometry_);
  check(dy.values.dtype() == DType::s8 && dy.values.shape() == y, "conv2d backward: gradient ",
        dy.values.dtype(), " ", dy.values.shape(), " for an input of ", x.shape());
  check(suits(x.shape(), weights_, geometry_), ErrorKind::internal, "conv2d backward: no quads for ",
        weights_, ", ", geometry_);
  report({ConvPass::backward_weights, x.shape(), weights_, y, geometry_, x.dtype(), DType::f32, DType::s8});
  const GroupSum sum(x, dy, plan_, geometry_, tiles_);
  if (groups_ == 1) {
    dw_ = Tensor::empty(weights_);
    float* dw = dw_.mutable_data<float>();
    sum.for_each_cell([&](std::int64_t block, std::int64_t output_block, const float* sums) {
      place(block, output_block, sums, dw);
    });
    return;
  }
  // A group whose neighbour is there is added to it while its sums are in the cache. With several units of
  // rows, a group's own sums come first.
  Tensor sums = sum.is_one_unit() ? sums_.take_neighbour(group) : Tensor();
  const bool adds = sums.defined();
  if (!adds) sums = Tensor::empty({plan_.tiles() * plan_.sums()});
  float* out = sums.mutable_data<float>();
  parallel_for(plan_.tiles(), 1, [&](std::int64_t begin, std::int64_t end) {
    GroupSum::Sums integers;
    sum.compute(plan_.tile(begin), end - begin, adds, out + begin * plan_.sums(), integers);
  });
  if (adds) {
    sums_.add_pair(group, std::move(sums));
  } else {
    sums_.add(group, std::move(sums));
  }
}

void QuadGradient::place(std::int64_t block, std::int64_t output_block, const float* sums, float* dw) const {
  const std::int64_t output = output_block * plan_.outputs;
  const std::vector<std::int32_t>& places = block + 1 < plan_.blocks ? whole_ : last_;
  const std::int64_t length = plan_.vectors_of(block) * quad_lanes;
  const std::int64_t area = plan_.height * plan_.width;
  const std::int64_t past = std::min(output + plan_.outputs, plan_.out_channels);
  const bool in_order = plan_.tiles_of_cell() == 1 && area == 1;
  const bool streams = weights_.numel() >= streamed_weights;
  std::array<float, 1024> some;
  for (std::int64_t o = output; o < past; ++o, sums += length) {
    const float factor = factors_ ? factors_.data<float>()[o] : 1.0f;
    float* filter = dw + (o * plan_.in_channels + block * plan_.block_channels) * area;
    for (std::int64_t first = 0, n; first < std::ssize(places); first += n) {
      n = std::min(std::ssize(some), std::ssize(places) - first);
      const float* from = sums + first;
      if (!in_order) {
        gather(sums, &places[first], n, some.data());
        from = some.data();
      }
      if (streams) {
        multiply_streamed(from, factor, n, filter + first);
      } else {
        multiply(from, factor, n, filter + first);
      }
    }
  }
}

Tensor QuadGradient::sum() {
  const Booked booked(Work::convolution);
  if (groups_ == 1) {
    check(dw_.defined(), ErrorKind::internal, "conv2d backward: gradient of no images");
    return dw_;
  }
  const Tensor total = sums_.total();
  Tensor dw = Tensor::empty(weights_);
  float* to = dw.mutable_data<float>();
  parallel_for(plan_.output_blocks, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t output_block = begin; output_block < end; ++output_block) {
      for (std::int64_t block = 0; block < plan_.blocks; ++block) {
        const std::int64_t tile = plan_.cell(block, output_block) * plan_.tiles_of_cell();
        place(block, output_block, total.data<float>() + tile * plan_.sums(), to);
      }
    }
    end_streamed();
  });
  return dw;
}

}  // namespace faq::kernels
