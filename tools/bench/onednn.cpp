// What the library does not offer by itself: packing weights alone, and the kernels it decided against. The
// only file outside core/kernels that speaks to oneDNN.
#include <algorithm>
#include <type_traits>

#include "core/kernels/conv_primitives.h"
#include "core/kernels/elementwise.h"
#include "core/kernels/paired_gradient.h"
#include "core/kernels/signed_images.h"
#include "core/kernels/tiled_gradient.h"
#include "core/parallel.h"
#include "quant/number_format.h"
#include "tools/bench/bench.h"
#include "tools/bench/layers.h"

namespace faq::bench {
namespace {

using namespace kernels;

constexpr FixedPoint weight_format{.scale = 0x1p-4f, .bits = 4, .is_signed = true};

// Weights in the layout the kernel wants; forward, also by oneDNN's own copy, which the library replaces.
void add_packing(const ConvLayer& layer) {
  const Shape shape = layer.weights();
  const auto problem = [=](DType x, DType w, DType y) {
    return onednn::problem_of(layer.x(), shape, layer.geometry().of(shape), x, w, y);
  };
  add("pack_weights/" + layer.name() + "/forward", {.bytes = 2 * shape.numel()}, [=]() -> Kernel {
    const auto desc = onednn::forward_desc(problem(DType::u8, DType::s8, DType::s32));
    return [=, w = quantized(shape, weight_format)] {
      WeightForms(w).layout(desc.weights_desc(), DType::u8, layer.groups);
    };
  });
  if (layer.groups == 1) {
    add("pack_weights/" + layer.name() + "/forward_onednn", {.bytes = 2 * shape.numel()}, [=]() -> Kernel {
      const auto desc = onednn::forward_desc(problem(DType::u8, DType::s8, DType::s32)).weights_desc();
      return [=, w = quantized(shape, weight_format)] {
        const Tensor layout = onednn::buffer(desc);
        onednn::reorder(onednn::view(onednn::plain_weights(shape, DType::s8, 1), w),
                        onednn::view(desc, layout));
      };
    });
    add("pack_weights/" + layer.name() + "/data_s8", {.bytes = 2 * shape.numel()}, [=]() -> Kernel {
      const Shape flipped{shape[1], shape[0], shape[2], shape[3]};
      const auto desc = onednn::forward_desc(onednn::problem_of(
          layer.y(), flipped, layer.geometry().of(flipped), DType::s8, DType::s8, DType::s32));
      return [=, w = quantized(shape, weight_format)] {
        WeightForms(w).flipped(0, 1)->layout(desc.weights_desc(), DType::s8, 1);
      };
    });
  }
  const DType grad = default_grad_format().dtype();
  const std::int64_t size = static_cast<std::int64_t>(size_of(grad));
  add("pack_weights/" + layer.name() + "/backward_data", {.bytes = (1 + 3 * size) * shape.numel()},
      [=]() -> Kernel {
        const auto desc = onednn::backward_data_desc(problem(grad, grad, grad));
        return [=, w = quantized(shape, weight_format)] {
          WeightForms(w).converted(grad)->layout(desc.weights_desc(), grad, layer.groups);
        };
      });
}

// The gradient of the weights in bf16 from pairs of pixels or in tiles, where the CPU has them, and as oneDNN
// computes it. Beyond the number of outputs at which PairedGradient::suits() ends, too: that limit is about
// speed alone.
void add_pairs(const ConvLayer& layer) {
  const Shape few_outputs = layer.weights().with(0, 16);
  const bool is_paired = PairedGradient::suits(few_outputs, layer.geometry(), DType::u8, DType::bf16);
  const bool is_tiled =
      TiledGradient::suits(layer.x(), layer.weights(), layer.geometry(), DType::u8, DType::bf16);
  if (!is_paired && !is_tiled) return;
  const std::string name = "gradient_pairs/" + layer.name();
  const Work work{.items = layer.batch, .operations = layer.operations()};
  const auto operands = [=](auto kernel) {
    return [=]() -> Kernel {
      return [=, x = quantized(layer.x(), {.bits = 4}), dy = reals(layer.y(), DType::bf16)] {
        parallel_shares(layer.batch, [&](std::int64_t begin, std::int64_t end, int) {
          kernel(x.rows(begin, end), dy.rows(begin, end));
        });
      };
    };
  };
  const auto ours = [=]<class Gradient>(std::type_identity<Gradient>) {
    return operands([=](const Tensor& x, const Tensor& dy) {
      Gradient gradient(layer.weights(), layer.geometry());
      gradient.add(x, dy);
      gradient.sum();
    });
  };
  if (is_paired) add(name + "/paired", work, ours(std::type_identity<PairedGradient>()));
  if (is_tiled) add(name + "/tiled", work, ours(std::type_identity<TiledGradient>()));
  add(name + "/onednn", work, operands([=](const Tensor& x, const Tensor& dy) {
        const Tensor operand = convert_unscaled(x, DType::bf16);
        onednn::unpacked(onednn::convolve_backward_weights(operand, dy, layer.weights(), layer.geometry()),
                         layer.weights(), 1);
      }));
}

// Both ways of signed images, of which the library takes one (conv_signed/…/s8): oneDNN's kernel for them, or
// a copy and the kernel for unsigned ones.
void add_signed(const ConvLayer& layer) {
  const auto operands = [=](auto kernel) {
    return [=]() -> Kernel {
      return [=, x = quantized(layer.x(), {.bits = 8, .is_signed = true}),
              w = std::make_shared<WeightForms>(quantized(layer.weights(), weight_format)),
              y = Tensor::empty(layer.y(), DType::s32)]() mutable { kernel(x, *w, y); };
    };
  };
  const std::string name = "conv_signed/" + layer.name();
  const Work work{.items = layer.batch, .operations = layer.operations()};
  add(name + "/s8_as_it_is", work, operands([=](const Tensor& x, WeightForms& w, Tensor& y) {
        onednn::convolve(x, w, {}, layer.geometry(), y);
      }));
  add(name + "/s8_copied", work, operands([=](const Tensor& x, WeightForms& w, Tensor& y) {
        onednn::convolve(shifted_and_padded(x, layer.geometry().padding), w, w.shift_correction(),
                         {.kernel = layer.kernel, .stride = layer.stride}, y);
      }));
}

}  // namespace

void add_onednn() {
  for (const ConvLayer& layer : conv_layers()) {
    if (layer.channels > 3 && layer.stride == 1) add_packing(layer);
  }
  for (const ConvLayer& layer : conv_layers()) add_pairs(layer);
  for (const ConvLayer& layer : signed_layers()) add_signed(layer);
}

}  // namespace faq::bench
