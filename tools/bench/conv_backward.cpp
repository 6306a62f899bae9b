// Gradients of convolutions, in the format that training takes here: bf16 where the CPU multiplies it, else
// f32.
#include "core/kernels/conv.h"
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

}  // namespace

void add_conv_backward() {
  for (const ConvLayer& layer : conv_layers()) {
    if (layer.channels > 3) add_data(layer);  // nobody wants the gradient of pixels
    add_weights(layer);
  }
}

}  // namespace faq::bench
