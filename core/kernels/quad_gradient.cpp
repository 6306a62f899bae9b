#include "core/kernels/quad_gradient.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "core/aligned_vector.h"
#include "core/kernels/conv_observer.h"
#include "core/kernels/quads.h"
#include "core/kernels/scaled_sums.h"
#include "core/kernels/simd.h"
#include "core/parallel.h"
#include "core/profile.h"

namespace faq::kernels {
namespace {

FAQ_SIMD void subtract(std::int32_t* sums, std::int32_t value, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) sums[i] -= value;
}

// out[i·stride] = in[i]·factor
FAQ_SIMD void scatter(const float* in, float factor, std::int64_t n, float* out, std::int64_t stride) {
  if (stride == 1) {
    for (std::int64_t i = 0; i < n; ++i) out[i] = in[i] * factor;
  } else {
    for (std::int64_t i = 0; i < n; ++i) out[i * stride] = in[i] * factor;
  }
}

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

  /// Computes tiles [begin, end) into `out`, or adds them to it.
  void compute(std::int64_t begin, std::int64_t end, bool adds, float* out) const {
    // What the tiles of a block of channels read again and again stays in a second-level cache of 1 MB.
    constexpr std::int64_t cache_bytes = 3 << 17;
    const std::int64_t band = std::max<std::int64_t>(1, cache_bytes / input_.row_bytes());
    const std::int64_t unit = rows_in_32_bits(output_.width());
    AlignedVector<std::int32_t> sums;
    for (std::int64_t first = 0; first < output_.rows(); first += unit) {
      const std::int64_t past = std::min(first + unit, output_.rows());
      // With one band a tile is finished at once.
      const bool at_once = past - first <= band;
      const std::int64_t kept = at_once ? 1 : end - begin;
      sums.assign(static_cast<std::size_t>(kept * plan_.sums()), 0);
      for (std::int64_t from = first; from < past; from += band) {
        const std::int64_t to = std::min(from + band, past);
        QuadPlan::Tile tile = plan_.tile(begin);
        for (std::int64_t number = begin; number < end; ++number, plan_.advance(tile)) {
          std::int32_t* of_tile = &sums[(at_once ? 0 : number - begin) * plan_.sums()];
          if (at_once) std::fill_n(of_tile, plan_.sums(), 0);
          run(tile, from, to, of_tile);
          if (to == past)
            finish(tile, first / unit, adds || first > 0, of_tile, out + (number - begin) * plan_.sums());
        }
      }
    }
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
    constexpr std::int64_t few = 32;  // tiles whose sums stay in the cache until they are placed
    parallel_for(plan_.tiles(), 1, [&](std::int64_t begin, std::int64_t end) {
      AlignedVector<float> sums(static_cast<std::size_t>(few * plan_.sums()));
      for (std::int64_t first = begin, past; first < end; first = past) {
        past = std::min(first + few, end);
        sum.compute(first, past, false, sums.data());
        QuadPlan::Tile tile = plan_.tile(first);
        for (std::int64_t number = first; number < past; ++number, plan_.advance(tile))
          place(tile, &sums[(number - first) * plan_.sums()], dw);
      }
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
    sum.compute(begin, end, adds, out + begin * plan_.sums());
  });
  if (adds) {
    sums_.add_pair(group, std::move(sums));
  } else {
    sums_.add(group, std::move(sums));
  }
}

void QuadGradient::place(const QuadPlan::Tile& tile, const float* sums, float* dw) const {
  const std::int64_t area = plan_.height * plan_.width;
  const std::int64_t length = plan_.vectors_of(tile.block) * quad_lanes;
  const std::int64_t here = plan_.channels_of(tile.block);
  const std::int64_t columns = plan_.width / plan_.columns;  // of the tile's run
  const std::int64_t first = tile.piece * plan_.vectors * quad_lanes;
  const std::int64_t past = std::min(first + length, columns * here);
  const std::int64_t output = tile.output_block * plan_.outputs;
  const std::int64_t outputs = std::min<std::int64_t>(plan_.outputs, plan_.out_channels - output);
  const float* factors = factors_ ? factors_.data<float>() + output : nullptr;
  for (std::int64_t o = 0; o < outputs; ++o) {
    const float factor = factors != nullptr ? factors[o] : 1.0f;
    float* filter = dw + ((output + o) * plan_.in_channels + tile.block * plan_.block_channels) * area +
                    tile.row * plan_.width + tile.column;
    for (std::int64_t i = first; i < past;) {
      const std::int64_t column = i / here, channel = i % here;
      const std::int64_t n = std::min(here - channel, past - i);
      scatter(sums + o * length + (i - first), factor, n, filter + channel * area + column, area);
      i += n;
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
  // Tiles of a block of outputs are gathered together: its part of the weights stays in the cache.
  parallel_for(plan_.output_blocks, 1, [&](std::int64_t begin, std::int64_t end) {
    QuadPlan::Tile tile = plan_.tile(0);
    for (std::int64_t number = 0; number < plan_.tiles(); ++number, plan_.advance(tile)) {
      if (tile.output_block >= begin && tile.output_block < end)
        place(tile, total.data<float>() + number * plan_.sums(), to);
    }
  });
  return dw;
}

}  // namespace faq::kernels
