// Gradients of convolutions, in floating point (bf16 where the CPU multiplies it, else f32) and in 8-bit
// integers.
#include "core/kernels/conv.h"
#include "core/kernels/integer_data_gradient.h"
#include "core/kernels/quad_gradient.h"
#include "core/kernels/unit.h"
#include "core/kernels/weight_gradient.h"
#include "core/parallel.h"
#include "quant/number_format.h"
#include "tools/bench/bench.h"
#include "tools/bench/layers.h"

namespace faq::bench {
namespace {

void add_data(const ConvLayer& layer) {
  add("conv_backward_data/" + layer.name(), {.items = layer.batch, .operations = layer.operations()},
      [=]() -> Kernel {
        const DType dtype = default_grad_format().dtype();
        return [dy = reals(layer.y(), dtype), w = kernels::PackedWeights(reals(layer.weights(), dtype)),
                dx = Tensor::empty(layer.x(), dtype), geometry = layer.geometry()]() mutable {
          kernels::conv2d_backward_data(dy, w, geometry, dx);
        };
      });
}

// As a training step adds it up: threads share the images.
void add_weights(const ConvLayer& layer) {
  add("conv_backward_weights/" + layer.name(), {.items = layer.batch, .operations = layer.operations()},
      [=]() -> Kernel {
        return
            [=, x = quantized(layer.x(), {.bits = 4}), dy = reals(layer.y(), default_grad_format().dtype())] {
              kernels::WeightGradient gradient(layer.weights(), layer.geometry(), num_shares(layer.batch));
              parallel_shares(layer.batch, [&](std::int64_t begin, std::int64_t end, int share) {
                gradient.add(x.rows(begin, end), dy.rows(begin, end), share);
              });
              gradient.sum();
            };
      });
}

constexpr FixedPoint gradient_format{.bits = 8, .is_signed = true};
constexpr FixedPoint weight_format{.scale = 0x1p-4f, .bits = 4, .is_signed = true};

// A batch in groups, as a training step divides it.
kernels::ImageGroups groups_of(const ConvLayer& layer) {
  const std::int64_t values = layer.x().numel() + layer.y().numel();
  return {layer.batch, 6 * values / layer.batch, layer.weights().numel()};
}

// Layers that 8-bit gradients do not take stay in floating point.
void add_integer_data(const ConvLayer& layer) {
  if (!kernels::suits_integer_data_gradient(layer.x(), layer.weights(), layer.geometry())) return;
  add("conv_backward_data_s8/" + layer.name(), {.items = layer.batch, .operations = layer.operations()},
      [=]() -> Kernel {
        return [=, dy = quantized(layer.y(), gradient_format),
                w = kernels::PackedWeights(quantized(layer.weights(), weight_format)),
                dx = Tensor::empty(layer.x(), DType::bf16)]() mutable {
          const kernels::ImageGroups groups = groups_of(layer);
          groups.for_each([&](std::int64_t group, int) {
            const std::int64_t first = groups.begin(group), last = groups.end(group);
            Tensor part = dx.rows(first, last);
            kernels::conv2d_backward_data_integer({dy.rows(first, last), 0.01f}, w, layer.geometry(),
                                                  Engine::integer, part);
          });
        };
      });
}

// `tiles`: null for those that a training step takes.
void add_integer_weights(const ConvLayer& layer, const kernels::QuadTiles* tiles, const std::string& name) {
  if (!kernels::QuadGradient::suits(layer.x(), layer.weights(), layer.geometry())) return;
  add(name + layer.name(), {.items = layer.batch, .operations = layer.operations()}, [=]() -> Kernel {
    return [=, x = quantized(layer.x(), {.bits = 4}), dy = quantized(layer.y(), gradient_format)] {
      const kernels::ImageGroups groups = groups_of(layer);
      kernels::QuadGradient gradient(layer.x(), layer.weights(), layer.geometry(), groups.count(), {},
                                     tiles
                                         ? *tiles
                                         : kernels::QuadGradient::tiles_for(
                                               layer.x(), layer.weights(), layer.geometry(), groups.count()));
      groups.for_each([&](std::int64_t group, int) {
        const std::int64_t first = groups.begin(group), last = groups.end(group);
        gradient.add(group, x.rows(first, last), {dy.rows(first, last), 0.01f});
      });
      gradient.sum();
    };
  });
}

}  // namespace

void add_conv_backward() {
  for (const ConvLayer& layer : conv_layers()) {
    if (layer.channels > 3) {  // nobody wants the gradient of pixels
      add_data(layer);
      add_integer_data(layer);
    }
    add_weights(layer);
    add_integer_weights(layer, nullptr, "conv_backward_weights_s8/");
  }
  // Those of other CPUs, as far as they run here.
  for (const kernels::QuadTiles& tiles : kernels::quad_tile_sets()) {
    for (const ConvLayer& layer : conv_layers())
      if (tiles.runs && layer.size == 28 && layer.kernel == 3 && layer.stride == 1)
        add_integer_weights(layer, &tiles, concat("quad_tiles/", tiles.name, "/"));
  }
}

}  // namespace faq::bench
