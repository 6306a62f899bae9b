// Integer convolutions: u8 and s8 images, s8 weights, s32 sums.
#include "core/kernels/conv.h"
#include "core/kernels/statistics.h"
#include "core/kernels/unit.h"
#include "tools/bench/bench.h"
#include "tools/bench/layers.h"

namespace faq::bench {
namespace {

constexpr FixedPoint four_bits{.scale = 0x1p-4f, .bits = 4};
constexpr FixedPoint weight_format{.scale = 0x1p-4f, .bits = 4, .is_signed = true};

void add_forward(const std::string& name, const ConvLayer& layer, const FixedPoint& images,
                 const FixedPoint& weights) {
  add(name, {.items = layer.batch, .operations = layer.operations()}, [=]() -> Kernel {
    return [x = quantized(layer.x(), images), w = kernels::PackedWeights(quantized(layer.weights(), weights)),
            y = Tensor::empty(layer.y(), DType::s32), geometry = layer.geometry()]() mutable {
      kernels::conv2d_integer(x, w, geometry, Engine::integer, y);
    };
  });
}

// What a training step does of them, statistics of the outputs included: slice by slice, while the sums are
// in the cache, or over the whole batch.
void add_statistics(const ConvLayer& layer) {
  const Work work{.items = layer.batch, .operations = layer.operations()};
  const auto operands = [=](auto kernel) {
    return [=]() -> Kernel {
      return
          [=, x = quantized(layer.x(), four_bits), geometry = layer.geometry(),
           w = kernels::PackedWeights(quantized(layer.weights(), weight_format))] { kernel(x, w, geometry); };
    };
  };
  const std::string name = "conv_statistics/" + layer.name();
  add(name + "/slices", work, operands([](const Tensor& x, const kernels::PackedWeights& w, const auto& g) {
        kernels::conv2d_accumulators(x, w, g, Engine::integer, true);
      }));
  add(name + "/whole", work, operands([](const Tensor& x, const kernels::PackedWeights& w, const auto& g) {
        Tensor y = kernels::conv2d_integer(x, w, g, Engine::integer);
        y.set_fixed_point({.scale = 0x1p-8f, .bits = 32, .is_signed = true});
        kernels::channel_statistics(y);
      }));
}

// Of a deployed network: in tiles, where these suit, and slice by slice.
void add_deployed(const ConvLayer& layer) {
  const auto with = [&](const std::string& how, const kernels::ByteTiles* tiles) {
    add("conv_deployed/" + layer.name() + "/" + how, {.items = layer.batch, .operations = layer.operations()},
        [=]() -> Kernel {
          const std::int64_t channels = layer.y()[3];
          const kernels::Requantize params{.multiplier = Tensor::full({channels}, 0.0123f),
                                           .bias = Tensor::full({channels}, 0.345f),
                                           .format = {.scale = 0.25f, .bits = 8}};
          return [=, x = quantized(layer.x(), {.scale = 0x1p-4f, .bits = 8}),
                  w = kernels::PackedWeights(quantized(layer.weights(), weight_format)),
                  out = Tensor::empty(layer.y(), DType::u8)]() mutable {
            kernels::conv2d_requantize(x, w, layer.geometry(), Engine::integer, {}, params, out, tiles);
          };
        });
  };
  for (const kernels::ByteTiles& tiles : kernels::byte_tile_sets())
    if (tiles.runs && tiles.allowed && tiles.pays) with(tiles.name, &tiles);
  with("slices", nullptr);
}

}  // namespace

void add_conv_forward() {
  for (const ConvLayer& layer : conv_layers())
    add_forward("conv_forward/" + layer.name(), layer, four_bits, weight_format);
  // Large weights: their sums may leave the bounds within which one convolution is exact.
  for (const ConvLayer& layer : conv_layers()) {
    if (layer.channels >= 128 && layer.kernel == 3)
      add_forward("conv_forward_8bit/" + layer.name(), layer, {.bits = 8}, {.bits = 8, .is_signed = true});
  }
  // Signed images reach oneDNN as they are, or as a copy that is shifted: core/kernels/conv.cpp chooses.
  for (const ConvLayer& layer : signed_layers()) {
    add_forward("conv_signed/" + layer.name() + "/u8", layer, {.bits = 8}, weight_format);
    add_forward("conv_signed/" + layer.name() + "/s8", layer, {.bits = 8, .is_signed = true}, weight_format);
  }
  for (const ConvLayer& layer : conv_layers()) {
    if (layer.kernel == 3 && layer.stride == 1) add_statistics(layer);
  }
  for (const ConvLayer& layer : conv_layers()) {
    if (layer.groups == 1) add_deployed(layer);
  }
}

}  // namespace faq::bench
