#include "quant/adapters.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <optional>

#include "core/kernels/elementwise.h"
#include "quant/recorded_op.h"
#include "quant/scheme.h"

namespace faq {
namespace {

// Runs an integer op and puts the result on the tape, with a note of the op that made it.
Var run_on_tape(const std::shared_ptr<const IntegerOp>& op, Inputs inputs, Engine engine) {
  std::vector<Tensor> values;
  for (const Var& input : inputs) values.push_back(input.value());
  return Var::record(op->kind(), op->run(values, engine), {inputs.begin(), inputs.end()}, {},
                     std::make_shared<RecordedOp>(op));
}

// The formats an op is built for. The op also depends on the tensors it is built from.
struct Formats {
  FixedPoint input = {};
  ConvGeometry geometry = {};  ///< may depend on the size of the images
  float residual_scale = 0;
  FixedPoint output = {};
  int weight_bits = 0;
  float weight_scale = 0;
  bool operator==(const Formats&) const = default;
};

// Keeps an op until one of the tensors it was built from is written to, or the formats change.
template <class Op>
class Cached {
 public:
  template <class Build>
  std::shared_ptr<const Op> get(const std::vector<const Tensor*>& sources, const Formats& formats,
                                Build build) {
    std::vector<std::uint64_t> versions;
    for (const Tensor* source : sources) versions.push_back(source->version());
    if (!op_ || versions != versions_ || formats != formats_) {
      op_ = build();
      versions_ = std::move(versions);
      formats_ = formats;
    }
    return op_;
  }

 private:
  std::shared_ptr<const Op> op_;
  std::vector<std::uint64_t> versions_;
  Formats formats_;
};

bool is_quantized(const Tensor& x) { return x.dtype() == DType::u8 || x.dtype() == DType::s8; }

bool is_quantized(const Var& x) { return is_quantized(x.value()); }

// Turns batch-norm into a multiplier and a bias of the accumulator, in units of the output's scale:
//   y/s_y = acc·(s_acc/s_y)·γ/√(σ²+ε) + (β − μ·γ/√(σ²+ε))/s_y.
// `channel_scales`: see QuantizedWeights.
kernels::Requantize requantization(const NormState& norm, const Activation& activation,
                                   double accumulator_scale, const Tensor& channel_scales,
                                   const FixedPoint& format) {
  const Tensor without_bias = mean_without_bias(norm);
  const std::int64_t channels = without_bias.numel();
  kernels::Requantize result{.multiplier = Tensor::empty({channels}),
                             .bias = Tensor::empty({channels}),
                             .activation = activation,
                             .format = format};
  const auto gamma = norm.gamma.value().span<float>(), beta = norm.beta.value().span<float>();
  const auto mean = without_bias.span<float>(), variance = norm.running_variance.span<float>();
  const auto multiplier = result.multiplier.mutable_span<float>();
  const auto bias = result.bias.mutable_span<float>();
  const double output_scale = format.scale;
  for (std::int64_t c = 0; c < channels; ++c) {
    const double scale = gamma[c] / std::sqrt(static_cast<double>(variance[c]) + norm.eps);
    const double of_channel =
        channel_scales ? accumulator_scale * channel_scales.data<float>()[c] : accumulator_scale;
    multiplier[c] = static_cast<float>(scale * of_channel / output_scale);
    bias[c] = static_cast<float>((beta[c] - mean[c] * scale) / output_scale);
  }
  return result;
}

class QuantizedInput final : public QuantizedUnit {
 public:
  QuantizedInput(std::string name, Input& unit, const NumberFormat& options)
      : QuantizedUnit(std::move(name), options), unit_(unit) {}

  Var forward(const Pass& pass, Inputs inputs) override {
    if (!precision_of(pass, unit_).activations) return unit_.compute(pass, inputs);
    const FixedPoint format = state().activation;
    if (!op_ || op_->table.fixed_point() != format) {
      auto op = std::make_shared<InputOp>();
      op->name = name_;
      op->table = kernels::quantize(unit_.table(), format);
      op_ = op;
    }
    return run_on_tape(op_, inputs, options_.engine);
  }

 private:
  Input& unit_;
  std::shared_ptr<const InputOp> op_;
};

class QuantizedConv final : public QuantizedUnit {
 public:
  QuantizedConv(std::string name, ConvUnit& unit, const NumberFormat& options)
      : QuantizedUnit(std::move(name), options), unit_(unit) {}

  Var forward(const Pass& pass, Inputs inputs) override {
    check(inputs.size() == 1 || inputs.size() == 2, "conv '", name_, "': ", inputs.size(), " inputs");
    const Var& x = inputs[0];
    const Var residual = inputs.size() > 1 ? inputs[1] : Var();
    const QuantizerState quantizer = state();
    const UnitPrecision precision = precision_of(pass, unit_);
    if (!is_quantized(x) || !precision.weights) return in_float(pass, x, residual, quantizer, precision);
    if (pass.training() || unit_.with_batch_statistics(pass)) {
      unit_.release_packed();  // of earlier passes in floating point
      const Convolution conv = convolution(x);
      LearnedStatistics learned;
      Var y = conv_norm_act_integer(conv.x, conv.filter, conv.packed, unit_.norm(), residual, conv.geometry,
                                    options_.engine, options_.grad_format,
                                    norm_options(pass, quantizer.activation), &learned, rounding_keys(pass));
      keep(pass, unit_.norm(), std::move(learned));
      return y;
    }
    const Formats formats{.input = x.value().fixed_point(),
                          .geometry = unit_.geometry(x.shape()),
                          .residual_scale = residual ? residual.value().fixed_point().scale : 0.0f,
                          .output = quantizer.activation,
                          .weight_bits = quantizer.weight_bits,
                          .weight_scale = quantizer.weight_scale};
    const NormState& norm = unit_.norm();
    std::vector<const Tensor*> sources{&unit_.weight().value(), &norm.gamma.value(), &norm.beta.value(),
                                       &norm.running_mean, &norm.running_variance};
    if (learns_weight_scale()) sources.push_back(&learned_weight_scale());
    if (norm.conv_bias) sources.push_back(&norm.conv_bias.value());
    return run_on_tape(op_.get(sources, formats, [&] { return build(formats); }), inputs, options_.engine);
  }

  Var master_weights() const override { return unit_.filter(); }

 protected:
  bool has_channel_multipliers() const override { return true; }

 private:
  NormActOptions norm_options(const Pass& pass, std::optional<FixedPoint> format) const {
    NormActOptions options = unit_.norm_options(pass, format);
    if (format) options.scale = activation_scale();
    return options;
  }

  struct Convolution {
    Var x, filter;
    kernels::PackedWeights packed;  ///< of the filter
    ConvGeometry geometry;
  };
  // What a step of training computes. A filter that covers the image is a matrix: its many weights are packed
  // and get their gradients in the order they lie in, and the sums of the gradient of the data are short
  // enough for 8 bits.
  Convolution convolution(const Var& x) {
    const Var filter = rounded_weights();
    const kernels::PackedWeights packed = integer_weights(filter).packed;
    const ConvGeometry geometry = unit_.geometry(x.shape());
    if (!kernels::covers_image(x.shape(), filter.shape(), geometry)) return {x, filter, packed, geometry};
    const kernels::PackedWeights matrix = packed.as_matrix();
    return {flatten(x), reshape(filter, matrix.shape()), matrix, {}};
  }

  // For an input that is not quantized, or weights that must not be.
  Var in_float(const Pass& pass, const Var& x, const Var& residual, const QuantizerState& quantizer,
               UnitPrecision precision) {
    const FloatWeights w = precision.weights ? rounded_float_weights() : own_weights();
    const Var y = conv2d(to_float(x), w.weights, unit_.geometry(x.shape()), options_.grad_format, w.packed,
                         pass.float_dtype);
    const auto format = precision.activations ? std::optional(quantizer.activation) : std::nullopt;
    LearnedStatistics learned;
    Var z = norm_act(y, unit_.norm(), residual, norm_options(pass, format), &learned);
    keep(pass, unit_.norm(), std::move(learned));
    return with_idle_scales(pass, z, precision);
  }

  FloatWeights own_weights() {
    const Var filter = unit_.filter();
    return {filter, unit_.packed(filter)};
  }

  std::shared_ptr<const ConvOp> build(const Formats& formats) {
    auto op = std::make_shared<ConvOp>();
    op->name = name_;
    op->weights = quantized_weights();
    op->geometry = formats.geometry;
    unit_.release_packed();
    const double accumulator_scale =
        static_cast<double>(formats.input.scale) * op->weights.values.fixed_point().scale;
    op->requantize = requantization(unit_.norm(), unit_.activation(), accumulator_scale,
                                    op->weights.channel_scales, formats.output);
    op->requantize.residual_multiplier = residual_multiplier(formats.residual_scale, formats.output);
    return op;
  }

  ConvUnit& unit_;
  Cached<ConvOp> op_;
};

class QuantizedNormAct final : public QuantizedUnit {
 public:
  QuantizedNormAct(std::string name, NormAct& unit, const NumberFormat& options)
      : QuantizedUnit(std::move(name), options), unit_(unit) {}

  Var forward(const Pass& pass, Inputs inputs) override {
    check(inputs.size() == 1, "norm '", name_, "': ", inputs.size(), " inputs");
    const Var& x = inputs[0];
    const FixedPoint format = state().activation;
    NormState& norm = unit_.norm();
    const bool batch = pass.with_batch_statistics();
    if (pass.training() || batch || !is_quantized(x)) {
      const UnitPrecision precision = precision_of(pass, unit_);
      NormActOptions wanted{.batch_statistics = batch};
      if (precision.activations) {
        wanted.format = format;
        wanted.scale = activation_scale();
      }
      LearnedStatistics learned;
      Var y = norm_act(x, norm, {}, wanted, &learned);
      keep(pass, norm, std::move(learned));
      return with_idle_scales(pass, y, precision);
    }
    const FixedPoint input = x.value().fixed_point();
    const auto op =
        op_.get({&norm.gamma.value(), &norm.beta.value(), &norm.running_mean, &norm.running_variance},
                {.input = input, .output = format}, [&] {
                  auto built = std::make_shared<NormActOp>();
                  built->name = name_;
                  built->requantize = requantization(norm, Activation::relu, input.scale, {}, format);
                  return built;
                });
    return run_on_tape(op, inputs, Engine::integer);
  }

 private:
  NormAct& unit_;
  Cached<NormActOp> op_;
};

class QuantizedLinear final : public QuantizedUnit {
 public:
  QuantizedLinear(std::string name, Linear& unit, const NumberFormat& options)
      : QuantizedUnit(std::move(name), options), unit_(unit) {}

  Var forward(const Pass& pass, Inputs inputs) override {
    check(inputs.size() == 1, "linear '", name_, "': ", inputs.size(), " inputs");
    const QuantizerState quantizer = state();
    const UnitPrecision precision = precision_of(pass, unit_);
    if (!precision.weights || !precision.activations) {
      const Var x = to_float(unit_.dropout()(pass, as_rows(inputs[0])));
      const FloatWeights w =
          precision.weights ? rounded_float_weights() : FloatWeights{unit_.weight(), unit_.packed_weight()};
      const Var y = linear(x, w.weights, unit_.bias(), options_.grad_format, w.packed, pass.float_dtype);
      return with_idle_scales(pass, y, {precision.weights, false});
    }
    if (pass.training()) {
      // A fully connected layer before this one has made integers already (dropout may have scaled them).
      const Var x = as_rows(inputs[0]);
      const Var taken_in = is_quantized(x) ? x : quantized(x, quantizer.activation);
      unit_.release_packed();
      const Var weight = rounded_weights();
      const Var y = linear_integer(unit_.dropout()(pass, taken_in), weight, integer_weights(weight).packed,
                                   unit_.bias(), options_.engine, options_.grad_format, rounding_keys(pass));
      return with_idle_scales(pass, y, {true, !is_quantized(x)});
    }
    const Tensor& x = inputs[0].value();
    const FixedPoint format = is_quantized(x) ? x.fixed_point() : quantizer.activation;
    std::vector<const Tensor*> sources{&unit_.weight().value(), &unit_.bias().value()};
    if (learns_weight_scale()) sources.push_back(&learned_weight_scale());
    const auto op = op_.get(
        sources,
        {.input = format, .weight_bits = quantizer.weight_bits, .weight_scale = quantizer.weight_scale},
        [&] { return build(format); });
    return run_on_tape(op, inputs, options_.engine);
  }

  Var master_weights() const override { return unit_.weight(); }

 private:
  Var quantized(const Var& x, const FixedPoint& format) const {
    return activation_scale() ? quantize(x, format, activation_scale()) : quantize(x, format);
  }

  std::shared_ptr<const LinearOp> build(const FixedPoint& format) {
    auto op = std::make_shared<LinearOp>();
    op->name = name_;
    op->input = format;
    op->weights = quantized_weights();
    const Tensor& values = op->weights.values;
    op->multiplier = Tensor::full({values.dim(0)}, logit_scale(*op));
    op->bias = unit_.bias().value().clone();
    unit_.release_packed();
    return op;
  }

  Linear& unit_;
  Cached<LinearOp> op_;
};

// The quantized forms of all units of the library.
class Forms final : public QuantizedForms {
 public:
  Forms(const std::string& name, const NumberFormat& options) : name_(name), options_(options) {}

  const std::string& name() const override { return name_; }

  std::shared_ptr<Adapter> of(Input& unit) const override { return quantized_unit<QuantizedInput>(unit); }
  std::shared_ptr<Adapter> of(ConvUnit& unit) const override { return quantized_unit<QuantizedConv>(unit); }
  std::shared_ptr<Adapter> of(NormAct& unit) const override { return quantized_unit<QuantizedNormAct>(unit); }
  std::shared_ptr<Adapter> of(Linear& unit) const override { return quantized_unit<QuantizedLinear>(unit); }

  std::shared_ptr<Adapter> of(Shortcut& unit) const override {
    if (unit.is_identity()) return nullptr;
    auto op = std::make_shared<ShortcutOp>();
    op->stride = unit.stride();
    op->out_channels = unit.out_channels();
    return moving(unit, std::move(op));
  }
  std::shared_ptr<Adapter> of(MaxPool& unit) const override {
    auto op = std::make_shared<MaxPoolOp>();
    op->options = unit.options();
    return moving(unit, std::move(op));
  }
  std::shared_ptr<Adapter> of(AvgPool& unit) const override {
    auto op = std::make_shared<AvgPoolOp>();
    op->options = unit.options();
    return moving(unit, std::move(op));
  }
  std::shared_ptr<Adapter> of(Concat& unit) const override {
    return moving(unit, std::make_shared<ConcatOp>());
  }
  std::shared_ptr<Adapter> of(GlobalAvgPool& unit) const override {
    return moving(unit, std::make_shared<GlobalAvgPoolOp>());
  }

 private:
  template <class Quantized, class Kind>
  std::shared_ptr<Adapter> quantized_unit(Kind& unit) const {
    return std::make_shared<Quantized>(name_, unit, options_);
  }
  template <class Op>
  std::shared_ptr<Adapter> moving(Unit& unit, std::shared_ptr<Op> op) const {
    op->name = name_;
    return std::make_shared<MovingUnit>(unit, std::move(op));
  }

  const std::string& name_;
  const NumberFormat& options_;
};

}  // namespace

Var MovingUnit::forward(const Pass& pass, Inputs inputs) {
  const auto floats = std::ranges::count_if(inputs, [](const Var& x) { return !is_quantized(x); });
  if (floats == 0 && !pass.training()) return run_on_tape(op_, inputs, Engine::integer);
  if (floats == 0 || floats == std::ssize(inputs)) return unit_.compute(pass, inputs);
  std::vector<Var> all_float;
  for (const Var& x : inputs) all_float.push_back(to_float(x));
  return unit_.compute(pass, all_float);
}

std::shared_ptr<Adapter> make_quantized_adapter(const std::string& name, Unit& unit,
                                                const NumberFormat& options) {
  try {
    return unit.quantized_form(Forms(name, options));
  } catch (const Error& error) {
    fail(error.kind(), "quantize: '", name, "': ", error.what());
  }
}

}  // namespace faq
