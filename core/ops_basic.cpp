#include "core/kernels/channels_first.h"
#include "core/kernels/concat.h"
#include "core/kernels/elementwise.h"
#include "core/kernels/loss.h"
#include "core/ops.h"

namespace faq {

// y = Σ x / (H·W);  dx = dy / (H·W) at every pixel.
Var global_avg_pool(const Var& x) {
  const Shape& shape = x.shape();
  Tensor sum = kernels::global_sum_pool(x.value());
  const float factor = 1.0f / static_cast<float>(shape[1] * shape[2]);
  if (sum.dtype() == DType::f32) {
    kernels::scale_in_place(sum, factor);
  } else {
    sum.set_fixed_point(kernels::mean_format(x.value().fixed_point(), shape[1] * shape[2]));
  }
  return Var::record(
      "global_avg_pool", sum.reshaped({shape[0], shape[3]}), {x}, [shape, factor](const Tensor& dy) -> Grads {
        return {kernels::global_sum_pool_backward(dy.reshaped({shape[0], 1, 1, shape[3]}), shape, factor)};
      });
}

// y = max over the window;  dx = dy at the maximum.
Var max_pool(const Var& x, const kernels::MaxPoolOptions& options) {
  Tensor y = kernels::max_pool(x.value(), options);
  return Var::record("max_pool", std::move(y), {x}, [x = x.value(), options](const Tensor& dy) -> Grads {
    return {kernels::max_pool_backward(dy, x, options)};
  });
}

// y = Σ x / n over the window;  dx = Σ dy / n over the windows that contain the pixel.
Var avg_pool(const Var& x, const kernels::AvgPoolOptions& options) {
  return Var::record("avg_pool", kernels::avg_pool(x.value(), options), {x},
                     [shape = x.shape(), options](const Tensor& dy) -> Grads {
                       return {kernels::avg_pool_backward(dy, shape, options)};
                     });
}

// y = (x₁ x₂ …);  dxᵢ = the channels of dy that belong to xᵢ.
Var concat_channels(std::span<const Var> parts) {
  struct Part {
    std::int64_t channels;
    bool grad_wanted;
  };
  std::vector<Tensor> values;
  std::vector<Part> cuts;
  for (const Var& part : parts) {
    values.push_back(part.value());
    cuts.push_back({part.shape()[3], part.requires_grad()});
  }
  return Var::record(
      "concat_channels", kernels::concat_channels(values), {parts.begin(), parts.end()},
      [cuts](const Tensor& dy) {
        Grads grads;
        std::int64_t first = 0;
        for (const Part& cut : cuts) {
          grads.push_back(cut.grad_wanted ? kernels::take_channels(dy, first, cut.channels) : Tensor());
          first += cut.channels;
        }
        return grads;
      });
}

// y = x·keep/(1 − p);  dx = dy·keep/(1 − p).
Var dropout(const Var& x, const Tensor& keep, float p) {
  check(p >= 0 && p < 1, "dropout: probability ", p);
  const float factor = 1.0f / (1.0f - p);
  return Var::record(
      "dropout", kernels::masked(x.value(), keep, factor), {x},
      [keep, factor](const Tensor& dy) -> Grads { return {kernels::masked(dy, keep, factor)}; });
}

// y = x;  dx = dy.
Var reshape(const Var& x, const Shape& shape) {
  return Var::record("reshape", x.value().reshaped(shape), {x},
                     [from = x.shape()](const Tensor& dy) -> Grads { return {dy.reshaped(from)}; });
}

// y = x;  dx = dy.
Var flatten(const Var& x) {
  check(x.value().rank() == 4, "flatten: expected images N,H,W,C, got ", x.shape());
  const Tensor y = kernels::channels_first(x.value());
  const Shape& shape = y.shape();
  return Var::record(
      "flatten", y.reshaped({shape[0], 1, 1, shape[1] * shape[2] * shape[3]}), {x},
      [shape](const Tensor& dy) -> Grads { return {kernels::channels_last(dy.reshaped(shape))}; });
}

// y = value;  dx = dy.
Var straight_through(const Var& x, Tensor value) {
  check(value.shape() == x.shape(), "straight_through: ", value.shape(), " for ", x.shape());
  return Var::record("straight_through", std::move(value), {x},
                     [](const Tensor& dy) -> Grads { return {dy}; });
}

// y = x·scale;  dx = dy: dy is already the gradient with respect to the real number.
Var to_float(const Var& x) {
  if (x.value().dtype() == DType::f32) return x;
  return Var::record("to_float", kernels::convert(x.value(), DType::f32), {x},
                     [](const Tensor& dy) -> Grads { return {dy}; });
}

// y = x at every stride-th pixel, zeros in the new channels;  dx = dy there, 0 elsewhere.
Var subsample_and_pad(const Var& x, int stride, std::int64_t channels) {
  if (stride == 1 && channels == x.shape()[3]) return x;
  Tensor y = kernels::subsample_and_pad(x.value(), stride, channels);
  return Var::record("subsample_and_pad", std::move(y), {x},
                     [shape = x.shape(), stride](const Tensor& dy) -> Grads {
                       return {kernels::subsample_and_pad_backward(dy, shape, stride)};
                     });
}

// y = clamp(round(x / scale));  dx = dy where min ≤ x/scale ≤ max, else 0.
Var quantize(const Var& x, const FixedPoint& format) {
  Tensor y = kernels::quantize(x.value(), format);
  return Var::record("quantize", std::move(y), {x}, [x = x.value(), format](const Tensor& dy) -> Grads {
    return {kernels::quantize_backward(dy, x, format)};
  });
}

// y = max(x, 0);  dx = dy where y > 0, else 0.
Var relu(const Var& x) {
  const Var real = to_float(x);
  Tensor y = kernels::relu(real.value());
  return Var::record("relu", y, {real},
                     [y](const Tensor& dy) -> Grads { return {kernels::relu_backward(dy, y)}; });
}

// y = tanh(x);  dx = dy·(1 − y²).
Var tanh(const Var& x) {
  const Var real = to_float(x);
  Tensor y = kernels::tanh(real.value());
  return Var::record("tanh", y, {real},
                     [y](const Tensor& dy) -> Grads { return {kernels::tanh_backward(dy, y)}; });
}

// y = a + b;  da = db = dy.
Var add(const Var& a, const Var& b) {
  return Var::record("add", kernels::add(a.value(), b.value()), {a, b}, [](const Tensor& dy) -> Grads {
    return {dy, dy};
  });
}

// y = x·f;  dx = dy·f.
Var scale(const Var& x, float factor) {
  const auto scaled = [factor](const Tensor& values) {
    Tensor result = values.clone();
    kernels::scale_in_place(result, factor);
    return result;
  };
  return Var::record("scale", scaled(x.value()), {x},
                     [scaled](const Tensor& dy) -> Grads { return {scaled(dy)}; });
}

// L = −Σ target·log softmax(z) / N;  dz = (softmax(z) − target) / N.
Var cross_entropy(const Var& logits, std::span<const std::int32_t> labels, float label_smoothing) {
  auto result = kernels::cross_entropy(logits.value(), labels, label_smoothing);
  return Var::record("cross_entropy", Tensor::full({1}, static_cast<float>(result.loss)), {logits},
                     [dlogits = result.dlogits](const Tensor& dy) -> Grads {
                       Tensor dz = dlogits.clone();
                       kernels::scale_in_place(dz, dy.item());
                       return {dz};
                     });
}

// L = Σ softmax(t)·(log softmax(t) − log softmax(z)) / N;  dz = (softmax(z) − softmax(t)) / N.
Var kl_divergence(const Var& logits, const Tensor& target) {
  auto result = kernels::kl_divergence(logits.value(), target);
  return Var::record("kl_divergence", Tensor::full({1}, static_cast<float>(result.divergence)), {logits},
                     [dlogits = result.dlogits](const Tensor& dy) -> Grads {
                       Tensor dz = dlogits.clone();
                       kernels::scale_in_place(dz, dy.item());
                       return {dz};
                     });
}

}  // namespace faq
