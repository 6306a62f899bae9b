#include "tests/integer_reference.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "quant/faq_scheme.h"

namespace faq::testing {
namespace {

std::vector<std::int64_t> integers(const Tensor& t) { return reference::elements<std::int64_t>(t); }

// As reference::conv2d, fast enough for whole networks: the output channels are the innermost loop.
std::vector<std::int64_t> convolve(const std::vector<std::int64_t>& x, const Shape& xs,
                                   const std::vector<std::int64_t>& w, const Shape& ws,
                                   const ConvGeometry& o) {
  const Shape ys = kernels::conv2d_shape(xs, ws, o);
  const std::int64_t filters = ws[0] / o.groups;  // of a group
  std::vector<std::int64_t> y(ys.numel()), taps(w.size());
  for (std::int64_t out = 0; out < ws[0]; ++out)
    for (std::int64_t tap = 0; tap < ws[1] * ws[2] * ws[3]; ++tap)
      taps[tap * ws[0] + out] = w[out * ws[1] * ws[2] * ws[3] + tap];
  for (std::int64_t n = 0; n < ys[0]; ++n)
    for (std::int64_t oy = 0; oy < ys[1]; ++oy)
      for (std::int64_t ox = 0; ox < ys[2]; ++ox) {
        std::int64_t* sums = &y[((n * ys[1] + oy) * ys[2] + ox) * ys[3]];
        for (std::int64_t ky = 0; ky < ws[2]; ++ky)
          for (std::int64_t kx = 0; kx < ws[3]; ++kx) {
            const std::int64_t iy = oy * o.stride - o.padding.top + ky,
                               ix = ox * o.stride - o.padding.left + kx;
            if (iy < 0 || iy >= xs[1] || ix < 0 || ix >= xs[2]) continue;
            const std::int64_t* pixel = &x[((n * xs[1] + iy) * xs[2] + ix) * xs[3]];
            for (std::int64_t in = 0; in < xs[3]; ++in) {
              const std::int64_t* row = &taps[((in % ws[1] * ws[2] + ky) * ws[3] + kx) * ws[0]];
              const std::int64_t first = in / ws[1] * filters;
              for (std::int64_t out = first; out < first + filters; ++out) sums[out] += pixel[in] * row[out];
            }
          }
      }
  return y;
}

// body(i, n, y, x, c) for an N,H,W,C tensor in the order of memory.
template <class Body>
void for_each_element(const Tensor& t, Body body) {
  for (std::int64_t i = 0; i < t.numel(); ++i) {
    const std::int64_t pixel = i / t.dim(3), row = pixel / t.dim(2);
    body(i, row / t.dim(1), row % t.dim(1), pixel % t.dim(2), i % t.dim(3));
  }
}

double distance_to_tie(double z) { return std::abs(z - std::floor(z) - 0.5); }

class Reference {
 public:
  Reference(Model& model, const Case& c) : case_(c) {
    for_each_unit(model, [this](const std::string& name, Unit& unit) {
      units_[name] = &unit;
      has_concat_ |= dynamic_cast<Concat*>(&unit) != nullptr;
    });
    for (const LayerPlan& row : layer_plan(model)) plan_[row.name] = row;
  }

  // Checks the result of one op against its inputs.
  void check_op(const IntegerOp& op, const std::vector<Tensor>& inputs, const Tensor& result,
                Differences& differences) {
    const std::string kind = op.kind();
    if (kind == "input") return check_input(op, inputs[0], result);
    if (kind == "shortcut") return check_shortcut(op, inputs[0], result);
    if (kind == "max_pool") return check_max_pool(op, inputs[0], result);
    if (kind == "global_avg_pool") return check_pool(inputs[0], result);
    if (kind == "avg_pool") return check_avg_pool(op, inputs[0], result);
    if (kind == "concat") return check_concat(inputs, result);
    if (kind == "conv") return check_conv(op, inputs, result, differences);
    if (kind == "norm_act") return check_norm_act(op, inputs[0], result, differences);
    if (kind == "linear") return check_linear(op, inputs[0], result);
    FAIL("no reference for " << kind);
  }

 private:
  template <class T>
  T& unit(const IntegerOp& op) {
    auto* found = dynamic_cast<T*>(units_.at(op.name));
    REQUIRE(found != nullptr);
    return *found;
  }

  void check_input(const IntegerOp& op, const Tensor& images, const Tensor& result) {
    auto& input = unit<Input>(op);
    const FixedPoint format = plan_.at(op.name).activation;
    CHECK(format.bits == 8);
    CHECK(format.is_signed);
    CHECK(result.fixed_point() == format);
    const auto pixels = integers(images), q = integers(result);
    const auto channels = static_cast<std::size_t>(images.dim(3));
    std::int64_t wrong = 0;
    for (std::size_t i = 0; i < pixels.size(); ++i) {
      const double mean = input.mean()[i % channels], std = input.std()[i % channels];
      const double z = (static_cast<double>(pixels[i]) / 255 - mean) / std / format.scale;
      const auto expected = std::clamp<std::int64_t>(std::llrint(z), format.min(), format.max());
      wrong += q[i] != expected && distance_to_tie(z) > 1e-4;  // the table is computed in f32
    }
    CHECK(wrong == 0);
  }

  // He et al.'s shortcut A: every second pixel, zero channels on both sides.
  void check_shortcut(const IntegerOp& op, const Tensor& x, const Tensor& result) {
    auto& shortcut = unit<Shortcut>(op);
    CHECK(result.fixed_point() == x.fixed_point());
    REQUIRE(result.dim(3) == shortcut.out_channels());
    const std::int64_t before = (result.dim(3) - x.dim(3)) / 2;
    const auto from = integers(x), to = integers(result);
    std::int64_t wrong = 0;
    for_each_element(
        result, [&](std::int64_t i, std::int64_t n, std::int64_t y, std::int64_t column, std::int64_t c) {
          const std::int64_t in = c - before;
          const bool inside = in >= 0 && in < x.dim(3);
          const std::int64_t pixel =
              (n * x.dim(1) + y * shortcut.stride()) * x.dim(2) + column * shortcut.stride();
          wrong += to[i] != (inside ? from[pixel * x.dim(3) + in] : 0);
        });
    CHECK(wrong == 0);
  }

  void check_max_pool(const IntegerOp& op, const Tensor& x, const Tensor& result) {
    const kernels::MaxPoolOptions& o = unit<MaxPool>(op).options();
    CHECK(result.fixed_point() == x.fixed_point());
    const auto from = integers(x), to = integers(result);
    std::int64_t wrong = 0;
    for_each_element(
        result, [&](std::int64_t i, std::int64_t n, std::int64_t y, std::int64_t column, std::int64_t c) {
          std::int64_t largest = -1000;
          for (std::int64_t k = 0; k < o.kernel * o.kernel; ++k) {
            const std::int64_t iy = y * o.stride - o.padding + k / o.kernel;
            const std::int64_t ix = column * o.stride - o.padding + k % o.kernel;
            if (iy < 0 || iy >= x.dim(1) || ix < 0 || ix >= x.dim(2)) continue;
            largest = std::max(largest, from[((n * x.dim(1) + iy) * x.dim(2) + ix) * x.dim(3) + c]);
          }
          wrong += to[i] != largest;
        });
    CHECK(wrong == 0);
  }

  // Means of windows: exact fractions, rounded half to even.
  void check_avg_pool(const IntegerOp& op, const Tensor& x, const Tensor& result) {
    const kernels::AvgPoolOptions& o = unit<AvgPool>(op).options();
    CHECK(result.fixed_point() == x.fixed_point());
    const auto from = integers(x), to = integers(result);
    const auto window = [&](std::int64_t out, std::int64_t size, std::int64_t outputs) {
      if (o.output > 0) return std::pair{out * size / outputs, ((out + 1) * size + outputs - 1) / outputs};
      return std::pair{out * o.stride - o.padding, out * o.stride - o.padding + o.kernel};
    };
    std::int64_t wrong = 0;
    for_each_element(result, [&](std::int64_t i, std::int64_t n, std::int64_t y, std::int64_t column,
                                 std::int64_t c) {
      const auto [top, bottom] = window(y, x.dim(1), result.dim(1));
      const auto [left, right] = window(column, x.dim(2), result.dim(2));
      std::int64_t sum = 0;
      for (std::int64_t iy = std::max<std::int64_t>(top, 0); iy < std::min(bottom, x.dim(1)); ++iy)
        for (std::int64_t ix = std::max<std::int64_t>(left, 0); ix < std::min(right, x.dim(2)); ++ix)
          sum += from[((n * x.dim(1) + iy) * x.dim(2) + ix) * x.dim(3) + c];
      wrong += to[i] !=
               std::llrint(static_cast<double>(sum) / static_cast<double>((bottom - top) * (right - left)));
    });
    CHECK(wrong == 0);
  }

  void check_concat(const std::vector<Tensor>& parts, const Tensor& result) {
    const auto to = integers(result);
    std::int64_t first = 0;
    for (const Tensor& part : parts) {
      CHECK(result.fixed_point() == part.fixed_point());
      const auto from = integers(part);
      std::int64_t wrong = 0;
      for (std::int64_t i = 0; i < part.numel(); ++i)
        wrong += to[i / part.dim(3) * result.dim(3) + first + i % part.dim(3)] != from[i];
      CHECK(wrong == 0);
      first += part.dim(3);
    }
    CHECK(first == result.dim(3));
  }

  void check_pool(const Tensor& x, const Tensor& result) {
    const std::int64_t pixels = x.dim(1) * x.dim(2);
    CHECK(result.dtype() == DType::s32);
    CHECK(result.fixed_point().scale == x.fixed_point().scale / static_cast<float>(pixels));
    const auto from = integers(x), to = integers(result);
    std::vector<std::int64_t> sums(to.size());
    for (std::size_t i = 0; i < from.size(); ++i) {
      const std::int64_t n = static_cast<std::int64_t>(i) / (pixels * x.dim(3));
      sums[n * x.dim(3) + static_cast<std::int64_t>(i) % x.dim(3)] += from[i];
    }
    CHECK(sums == to);
  }

  void check_conv(const IntegerOp& op, const std::vector<Tensor>& inputs, const Tensor& result,
                  Differences& differences) {
    auto& conv = unit<ConvUnit>(op);
    const LayerPlan& row = plan_.at(op.name);
    const Tensor& x = inputs[0];
    const Tensor weights = conv.filter().value();
    const Weights w = weights_of(weights, row.weight_bits, dynamic_cast<const ConvOp&>(op).weights);
    const auto accumulators =
        convolve(integers(x), x.shape(), w.integers, weights.shape(), conv.geometry(x.shape()));
    const double step = static_cast<double>(x.fixed_point().scale) * w.scale;
    check_requantized(accumulators, step,
                      {conv.norm(), conv.norm().eps, conv.activation(), row.activation, w.channel_scales},
                      inputs.size() > 1 ? inputs[1] : Tensor(), result, differences);
  }

  void check_norm_act(const IntegerOp& op, const Tensor& x, const Tensor& result, Differences& differences) {
    auto& norm = unit<NormAct>(op);
    check_requantized(integers(x), x.fixed_point().scale,
                      {norm.norm(), norm.norm().eps, Activation::relu, plan_.at(op.name).activation}, {},
                      result, differences);
  }

  struct Normalization {
    const NormState& norm;
    float eps;
    Activation activation;
    FixedPoint format;
    std::vector<double> channel_scales = {};
  };
  void check_requantized(const std::vector<std::int64_t>& accumulators, double step, const Normalization& n,
                         const Tensor& residual_tensor, const Tensor& result, Differences& differences) {
    const FixedPoint format = n.format;
    CHECK(result.fixed_point() == format);
    const auto q = integers(result);
    REQUIRE(q.size() == accumulators.size());
    const bool has_residual = residual_tensor.defined();
    const std::vector<std::int64_t> residual =
        has_residual ? integers(residual_tensor) : std::vector<std::int64_t>{};
    const double residual_scale = has_residual ? residual_tensor.fixed_point().scale : 0;

    const double s_y = format.scale;
    const auto channels = static_cast<std::size_t>(n.norm.running_mean.numel());
    std::vector<double> slope(channels), offset(channels);
    for (std::size_t c = 0; c < channels; ++c) {
      const double sigma = std::sqrt(static_cast<double>(n.norm.running_variance.data<float>()[c]) + n.eps);
      const double gamma = n.norm.gamma.value().data<float>()[c], beta = n.norm.beta.value().data<float>()[c];
      // In f32, as the mean without the bias is kept.
      const float bias = n.norm.conv_bias ? n.norm.conv_bias.value().data<float>()[c] : 0.0f;
      const double mean = n.norm.running_mean.data<float>()[c] - bias;
      slope[c] = step * (n.channel_scales.empty() ? 1.0 : n.channel_scales[c]) * gamma / sigma / s_y;
      offset[c] = (beta - mean * gamma / sigma) / s_y;
    }
    // The ends of the activation are rounded as all values are.
    const double low = std::max<double>(n.activation.low / s_y, -1e6),
                 high = std::min<double>(n.activation.high / s_y, 1e6);
    const auto integer_of = [&](double z) {
      return std::clamp<std::int64_t>(std::llrint(std::clamp(z, low, high)), format.min(), format.max());
    };
    std::set<std::int64_t> levels;
    for (std::size_t i = 0; i < q.size(); ++i) {
      const std::size_t c = i % channels;
      const auto acc = static_cast<double>(accumulators[i]);
      const double r = has_residual ? static_cast<double>(residual[i]) * (residual_scale / s_y) : 0;
      const double deployed = acc * static_cast<double>(static_cast<float>(slope[c])) +
                              static_cast<double>(static_cast<float>(offset[c])) + r;
      const double unrounded = acc * slope[c] + offset[c] + r;
      ++differences.values;
      const bool near_tie = distance_to_tie(deployed) < 1e-6;
      // Without a normalisation or bias the multiplier is a power of two and ties are exact.
      differences.near_ties += near_tie && n.eps > 0;
      differences.differing += q[i] != integer_of(deployed);
      if (const auto expected = integer_of(unrounded); q[i] != expected) {
        ++differences.unrounded;
        differences.far_from_it += std::abs(q[i] - expected) > 1 || distance_to_tie(unrounded) > 1e-3;
      }
      levels.insert(q[i]);
    }
    // The comparison means something: the layer is alive and uses its bits (fewer of them where it shares a
    // step with others).
    CHECK(levels.size() > static_cast<std::size_t>(format.max()) / (has_concat_ ? 16 : 4));
  }

  void check_linear(const IntegerOp& op, const Tensor& x, const Tensor& logits) {
    auto& linear = unit<Linear>(op);
    const LayerPlan& row = plan_.at(op.name);
    const Tensor& weights = linear.weight().value();
    const Weights w = weights_of(weights, row.weight_bits, dynamic_cast<const LinearOp&>(op).weights);
    // What is quantized already is taken as it is.
    const FixedPoint input = x.dtype() == DType::s32 ? row.activation : x.fixed_point();
    std::vector<std::int64_t> taken;
    for (const std::int64_t sum : integers(x)) {
      // As kernels::quantize says it: where the ratio is inexact, a tie of the formula may round either way.
      const double ratio = static_cast<double>(x.fixed_point().scale) / input.scale;
      const double z = static_cast<double>(sum) * ratio;
      taken.push_back(std::clamp<std::int64_t>(std::llrint(z), input.min(), input.max()));
    }
    const auto acc = convolve(taken, {x.dim(0), 1, 1, weights.dim(1)}, w.integers,
                              {weights.dim(0), weights.dim(1), 1, 1}, {});
    const auto actual = logits.span<float>();
    REQUIRE(acc.size() == actual.size());
    std::int64_t wrong = 0;
    for (std::size_t i = 0; i < acc.size(); ++i) {
      const double bias = linear.bias().value().data<float>()[static_cast<std::int64_t>(i) % weights.dim(0)];
      // The multiplier is kept in f32 (exact for steps that are powers of two).
      const double value = static_cast<double>(acc[i]) * (input.scale * w.scale);
      wrong += actual[i] != static_cast<float>(value + bias);
    }
    CHECK(wrong == 0);
  }

  // FAQ's from the formula. Those of the other schemes as they are deployed: quant_clusters_test.cpp holds
  // them to their formulas.
  struct Weights {
    std::vector<std::int64_t> integers;
    float scale;
    std::vector<double> channel_scales = {};
  };
  Weights weights_of(const Tensor& weights, int bits, const QuantizedWeights& deployed) {
    if (deployed.code != WeightCode::fixed_point)
      return {integers(deployed.values), deployed.values.fixed_point().scale};
    if (case_.scheme == Scheme::lsq) {
      const Tensor& scales = deployed.channel_scales;
      const float scale = deployed.values.fixed_point().scale;
      const Weights result{integers(deployed.values), scale,
                           scales ? reference::numbers(scales) : std::vector<double>()};
      const double largest = (1 << (bits - 1)) - 1;
      const auto length = static_cast<std::size_t>(weights.numel() / weights.dim(0));
      std::int64_t wrong = 0;
      const auto w = weights.span<float>();
      for (std::size_t i = 0; i < w.size(); ++i) {
        const double z = w[i] / (scales ? result.channel_scales[i / length] : scale);
        const auto expected = static_cast<std::int64_t>(std::clamp(std::nearbyint(z), -largest, largest));
        wrong += result.integers[i] != expected && distance_to_tie(z) > 1e-5;  // rounded in f32
      }
      CHECK(wrong == 0);
      return result;
    }
    const FixedPoint format = choose_weight_format(weights, bits, case_.weight_scale);
    return {quantized(weights, format), format.scale};
  }

  const Case case_;
  std::map<std::string, Unit*> units_;
  bool has_concat_ = false;
  std::map<std::string, LayerPlan> plan_;
};

}  // namespace

std::vector<std::int64_t> quantized(const Tensor& values, const FixedPoint& format) {
  std::vector<std::int64_t> q;
  for (const double v : reference::elements<double>(values)) {
    q.push_back(std::clamp<std::int64_t>(std::llrint(v / format.scale), format.min(), format.max()));
  }
  return q;
}

Differences check_case(const Case& c) {
  const auto model = quantized_model(c);
  const IntegerNetwork network = compile(*model, c);
  const Tensor images = images_for(c, c.images);
  const std::vector<Tensor> results = network.forward_all(images);
  check_same_results("model", network, results, tape_values(*model, images));
  CHECK(same_result(network.forward(images), results.back()));
  CHECK(network.num_classes() == c.classes);
  CHECK(results.back().shape() == Shape{c.images, c.classes});

  Differences d;
  Reference reference(*model, c);
  for (std::size_t i = 0; i < results.size(); ++i) {
    const IntegerNetwork::Node& node = network.nodes()[i];
    INFO(node.op->kind() << " '" << node.op->name << "'");
    std::vector<Tensor> inputs;
    for (const int input : node.inputs) inputs.push_back(input == 0 ? images : results[input - 1]);
    reference.check_op(*node.op, inputs, results[i], d);
  }
  CHECK(d.differing == 0);
  CHECK(d.near_ties <= (c.norms == Norms::ties ? d.values : d.values / 10000));
  if (c.norms == Norms::ties) {
    CHECK(d.near_ties > d.values / 1000);  // the row does what it is there for
  } else {
    CHECK(d.far_from_it == 0);
    CHECK(d.unrounded <= d.values / 5000);
  }
  return d;
}

}  // namespace faq::testing
