// The fused passes of a quantized unit: what follows its convolution, forward and backward.
#include "core/kernels/unit.h"
#include "core/kernels/norm.h"
#include "core/kernels/requantizer.h"
#include "quant/number_format.h"
#include "tools/bench/bench.h"
#include "tools/bench/layers.h"

namespace faq::bench {
namespace {

constexpr FixedPoint four_bits{.scale = 0.25f, .bits = 4};
constexpr int largest_sum = 2000;

// Batch-norm, residual sum, ReLU and quantization of 16-bit sums.
kernels::NormActParams norm_act_of(const Map& map) {
  return {.scale = Tensor::full({map.channels}, 0.5f),
          .shift = Tensor::full({map.channels}, 0.25f),
          .residual = quantized(map.shape(), four_bits),
          .format = four_bits};
}

void add_norm_act(const Map& map) {
  const std::int64_t n = map.shape().numel();
  add("unit_forward/" + map.name(), {.items = map.batch, .bytes = 4 * n}, [=]() -> Kernel {
    return [x = sums(map.shape(), DType::s16, largest_sum), params = norm_act_of(map)] {
      kernels::norm_act(x, params);
    };
  });
  const DType grad = default_grad_format().dtype();
  const std::int64_t size = static_cast<std::int64_t>(size_of(grad));
  // One pass reduces, the other writes the gradients of the sums and of the residual.
  add("unit_backward/" + map.name(), {.items = map.batch, .bytes = (2 * (3 + size) + 2 * size) * n},
      [=]() -> Kernel {
        const Tensor x = sums(map.shape(), DType::s16, largest_sum);
        return
            [=, params = norm_act_of(map), dy = reals(map.shape(), grad),
             statistics = kernels::channel_statistics(x), gamma = Tensor::full({map.channels}, 1.0f),
             dx = Tensor::empty(map.shape(), grad), dresidual = Tensor::empty(map.shape(), grad)]() mutable {
              const kernels::NormActBackward pass(dy, x, params, statistics, gamma, 1e-5f);
              pass.apply(0, map.batch, dx, dresidual);
            };
      });
  // The same with the gradient of the sums in 8 bits.
  add("unit_backward_s8/" + map.name(), {.items = map.batch, .bytes = (2 * (3 + size) + size + 1) * n},
      [=]() -> Kernel {
        const Tensor x = sums(map.shape(), DType::s16, largest_sum);
        RoundingKeys keys{.seed = 1};
        for (std::int64_t i = 0; i < map.batch; ++i) keys.samples.push_back(i);
        return [=, params = norm_act_of(map), dy = reals(map.shape(), grad),
                statistics = kernels::channel_statistics(x), gamma = Tensor::full({map.channels}, 1.0f),
                dresidual = Tensor::empty(map.shape(), grad)] {
          const kernels::NormActBackward pass(dy, x, params, statistics, gamma, 1e-5f,
                                              {.with_rounding = true});
          const kernels::ImageGroups groups(map.batch, 12 * n / map.batch, 0);
          groups.for_each([&](std::int64_t group, int) {
            Tensor part = dresidual.rows(groups.begin(group), groups.end(group));
            pass.apply_rounded(groups.begin(group), groups.end(group), keys, part);
          });
        };
      });
}

// Deployment: 32-bit sums to the next integers.
void add_requantize(const Map& map) {
  const std::int64_t n = map.shape().numel();
  for (const bool has_residual : {false, true}) {
    add("requantize/" + map.name() + (has_residual ? "_residual" : ""),
        {.items = map.batch, .bytes = (5 + has_residual) * n}, [=]() -> Kernel {
          const kernels::Requantize params{.multiplier = Tensor::full({map.channels}, 0.0123f),
                                           .bias = Tensor::full({map.channels}, 0.345f),
                                           .residual_multiplier = has_residual ? 0.5f : 0.0f,
                                           .format = {.scale = 0.25f, .bits = 8}};
          return [=, x = sums(map.shape(), DType::s32, largest_sum),
                  residual = has_residual ? quantized(map.shape(), {.scale = 0.5f, .bits = 8}) : Tensor(),
                  out = Tensor::empty(map.shape(), DType::u8)]() mutable {
            kernels::requantize(x, residual, params, out);
          };
        });
  }
}

}  // namespace

void add_unit() {
  for (const Map& map : maps()) add_norm_act(map);
  for (const Map& map : maps()) add_requantize(map);
}

}  // namespace faq::bench
