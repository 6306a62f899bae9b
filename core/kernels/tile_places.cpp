#include "core/kernels/tile_places.h"

#include <algorithm>
#include <array>
#include <utility>

#include "core/error.h"
#include "core/kernels/simd.h"
#include "core/kernels/streamed.h"
#include "core/parallel.h"

namespace faq::kernels {
namespace {

FAQ_SIMD void multiply(const float* in, float factor, std::int64_t n, float* out) {
  for (std::int64_t i = 0; i < n; ++i) out[i] = in[i] * factor;
}

// out[i] = in[places[i]]
void gather(const float* in, const std::int32_t* places, std::int64_t n, float* out) {
  for (std::int64_t i = 0; i < n; ++i) out[i] = in[places[i]];
}

// For each weight of an output, in their order: where its sum is among those of a cell's tiles.
std::vector<std::int32_t> places_of(const QuadPlan& plan, std::int64_t block) {
  const std::int64_t area = plan.height * plan.width, channels = plan.channels_of(block);
  const std::int64_t length = plan.vectors_of(block) * quad_lanes;
  const std::int64_t run = plan.width / plan.columns * channels;
  std::vector<std::int32_t> places(static_cast<std::size_t>(channels * area));
  QuadPlan::Tile tile{.block = block};
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

// Gradients of so many weights are not in the caches when the optimizer reads them.
constexpr std::int64_t streamed_weights = 1 << 20;

}  // namespace

TilePlaces::TilePlaces(const QuadPlan& plan, Tensor factors)
    : plan_(plan),
      factors_(std::move(factors)),
      whole_(places_of(plan, 0)),
      last_(places_of(plan, plan.blocks - 1)) {
  check(!factors_ || factors_.numel() == plan.out_channels, "conv2d backward: ", factors_.shape(),
        " factors for ", plan.out_channels, " channels");
}

void TilePlaces::place(std::int64_t block, std::int64_t output_block, const float* sums, float* dw) const {
  const std::int64_t output = output_block * plan_.outputs;
  const std::vector<std::int32_t>& places = block + 1 < plan_.blocks ? whole_ : last_;
  const std::int64_t length = plan_.vectors_of(block) * quad_lanes;
  const std::int64_t area = plan_.height * plan_.width;
  const std::int64_t past = std::min(output + plan_.outputs, plan_.out_channels);
  const bool in_order = plan_.tiles_of_cell() == 1 && area == 1;
  const bool streams = plan_.out_channels * plan_.in_channels * area >= streamed_weights;
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

Tensor TilePlaces::placed(const float* sums) const {
  Tensor dw = Tensor::empty({plan_.out_channels, plan_.in_channels, plan_.height, plan_.width});
  float* to = dw.mutable_data<float>();
  parallel_for(plan_.output_blocks, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t output_block = begin; output_block < end; ++output_block) {
      for (std::int64_t block = 0; block < plan_.blocks; ++block) {
        const std::int64_t tile = plan_.cell(block, output_block) * plan_.tiles_of_cell();
        place(block, output_block, sums + tile * plan_.sums(), to);
      }
    }
    end_streamed();
  });
  return dw;
}

}  // namespace faq::kernels
