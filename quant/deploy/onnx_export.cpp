#include "quant/deploy/onnx_export.h"

#include <cmath>
#include <string_view>
#include <utility>

namespace faq {
namespace {

bool are_narrow(const QuantizedWeights& weights) {
  return weights.code == WeightCode::fixed_point && weights.bits <= 4;
}

OnnxType byte_of(const FixedPoint& format) { return format.is_signed ? OnnxType::s8 : OnnxType::u8; }

Activation activation_of(const IntegerOp& op) {
  struct Activations final : PartialOpVisitor {
    using PartialOpVisitor::visit;
    void visit(const ConvOp& conv) override { found = conv.requantize.activation; }
    void visit(const NormActOp& norm) override { found = norm.requantize.activation; }
    Activation found;
  } activations;
  op.accept(activations);
  return activations.found;
}

// Unsigned integers that have all levels of 4 bits and are multiplied with weights of 4 bits are UINT4. All
// others are clipped in 8 bits: ONNX Runtime takes no Clip in front of a type of 4 bits, and makes of UINT4
// and 8-bit weights an integer convolution that it then refuses.
OnnxType factor_of(const FixedPoint& format, const Activation& activation, const QuantizedWeights& weights) {
  const Levels levels = levels_of(activation, format);
  return levels.low == 0 && levels.high == 15 && are_narrow(weights) ? OnnxType::u4 : byte_of(format);
}

// Of each op's result. One that is multiplied with weights of both kinds is in 8 bits, as tables are.
std::vector<OnnxType> types_of(const IntegerNetwork& network) {
  const std::vector<TensorInfo>& results = network.results();
  std::vector<OnnxType> types(results.size(), OnnxType::u4);
  std::vector<bool> is_factor(results.size());
  for (const IntegerNetwork::Node& node : network.nodes()) {
    const QuantizedWeights* weights = weights_of(*node.op);
    if (!weights) continue;
    const auto read = static_cast<std::size_t>(node.inputs[0]) - 1;
    is_factor[read] = true;
    if (results[read].format && types[read] == OnnxType::u4)
      types[read] = factor_of(*results[read].format, activation_of(*network.nodes()[read].op), *weights);
  }
  for (std::size_t i = 0; i < results.size(); ++i) {
    const bool is_table = network.nodes()[i].op->kind() == std::string_view("input");
    if ((!is_factor[i] || is_table) && results[i].format) types[i] = byte_of(*results[i].format);
  }
  return types;
}

// The integers that QuantizeLinear clips to.
Levels levels_of(OnnxType type) {
  switch (type) {
    case OnnxType::u4:
      return {0, 15};
    case OnnxType::u8:
      return {0, 255};
    default:
      return {-128, 127};
  }
}

// Weights as they are stored, and what multiplies those of each filter.
struct ScaledWeights {
  std::vector<std::int8_t> values;
  std::vector<float> scales;
};

class Writer final : public OpVisitor {
 public:
  explicit Writer(const IntegerNetwork& network) : network_(network), types_(types_of(network)) {
    const Preprocessing& p = network.preprocessing();
    model.input = {"image", OnnxType::u8, {p.height, p.width, p.channels}};
    model.output = {"logits", OnnxType::f32, {network.num_classes()}};
    model.metadata = onnx_metadata(
        p, "pixels of the resized and cropped image: u8, N,H,W,C, 0 to 255; mean and std are in the model");
    for (const auto& [key, value] : network.about()) model.metadata.emplace(key, value);
    for (node_ = 0; node_ < network.nodes().size(); ++node_) op().accept(*this);
  }

  OnnxModel model;

  void visit(const InputOp& op) override {
    const std::int64_t channels = op.table.dim(0), pixels = op.table.dim(1);
    std::string index = model.add("Cast", part("pixel"), {model.input.name},
                                  {{"to", static_cast<std::int64_t>(OnnxType::s32)}});
    if (channels > 1) {
      std::string firsts;
      for (std::int64_t c = 0; c < channels; ++c) {
        const auto first = static_cast<std::int32_t>(c * pixels);
        firsts.append(reinterpret_cast<const char*>(&first), sizeof(first));
      }
      index = model.add("Add", part("index"),
                        {index, model.add({part("first"), OnnxType::s32, {channels}, std::move(firsts)})});
    }
    const std::string table =
        model.add({part("table"),
                   types_[node_],
                   {channels * pixels},
                   onnx_bytes(types_[node_], {static_cast<const std::int8_t*>(op.table.raw()),
                                              static_cast<std::size_t>(op.table.numel())})});
    const std::string looked_up =
        model.add("Gather", part("value"), {table, index}, {{"axis", std::int64_t{0}}});
    model.add("Transpose", op.name, {looked_up}, {{"perm", std::vector<std::int64_t>{0, 3, 1, 2}}});
    zero(part("zero"), types_[node_]);
    real_.push_back(real(op.name, model.scalar(part("scale"), op.table.fixed_point().scale)));
  }

  void visit(const ConvOp& op) override {
    const ConvGeometry geometry = op.geometry.of(op.weights.values.shape());
    const std::int64_t channels = op.requantize.bias.numel();
    const std::vector<float> bias = reals(op.requantize.bias, op.requantize);
    std::vector<std::string> x{real_of(0), weights(op.weights, scaled(op))};
    // ONNX Runtime rounds the bias of an integer convolution to s32. With few bits a unit of the sum is a
    // large part of a step. (With weights of 4 bits it makes no integer convolution, but rounds all the
    // same.)
    const bool apart = are_narrow(op.weights) || op.requantize.format.bits <= 4;
    if (!apart) x.push_back(model.floats(part("bias"), {channels}, bias));
    std::string y = model.conv(part("conv"), std::move(x), geometry);
    if (apart) y = model.add("Add", part("biased"), {y, model.floats(part("bias"), {channels, 1, 1}, bias)});
    if (inputs().size() > 1) y = model.add("Add", part("sum"), {y, real_of(1)});
    requantized(y, op.requantize);
  }

  void visit(const NormActOp& op) override {
    const std::int64_t channels = op.requantize.multiplier.numel();
    std::vector<float> factors;
    for (const float multiplier : op.requantize.multiplier.span<float>())
      factors.push_back(in_f32(static_cast<double>(multiplier) * op.requantize.format.scale /
                               static_cast<double>(argument(0).format->scale)));
    const std::string product = model.add(
        "Mul", part("product"), {real_of(0), model.floats(part("factor"), {channels, 1, 1}, factors)});
    const std::string bias =
        model.floats(part("bias"), {channels, 1, 1}, reals(op.requantize.bias, op.requantize));
    requantized(model.add("Add", part("sum"), {product, bias}), op.requantize);
  }

  void visit(const ShortcutOp& op) override {
    quantized(model.shortcut(part("padded"), real_of(0), argument(0).shape, op.stride, op.out_channels));
  }
  void visit(const MaxPoolOp& op) override {
    quantized(model.max_pool(part("pool"), real_of(0), op.options));
  }

  // Of the integers themselves: a mean that is a tie must stay one, whatever the scale.
  void visit(const AvgPoolOp& op) override {
    const std::string one = model.scalar(part("one"), 1);
    const std::string integers = model.add("DequantizeLinear", part("integers"),
                                           {value_of(0), one, zero(part("from"), types_[index_of(0)])});
    const std::string mean = model.avg_pool(part("pool"), integers, argument(0).shape, op.options);
    model.add("QuantizeLinear", op.name, {mean, one, zero(part("zero"), types_[node_])});
    real_.push_back(real(op.name, model.scalar(part("scale"), result().format->scale)));
  }

  void visit(const ConcatOp&) override {
    std::vector<std::string> parts;
    for (std::size_t i = 0; i < inputs().size(); ++i) parts.push_back(real_of(i));
    quantized(model.add("Concat", part("parts"), std::move(parts), {{"axis", std::int64_t{1}}}));
  }

  // Not quantized: the classifier that reads it does that.
  void visit(const GlobalAvgPoolOp& op) override {
    real_.push_back(model.add("GlobalAveragePool", op.name, {real_of(0)}));
  }

  void visit(const LinearOp& op) override {
    std::string x = model.add("Flatten", part("rows"), {real_of(0)}, {{"axis", std::int64_t{1}}});
    if (argument(0).dtype == DType::s32) {
      const OnnxType type = factor_of(op.input, {}, op.weights);
      const std::string scale = model.scalar(part("input_scale"), op.input.scale);
      x = quantize(part("input"), clipped(x, {}, op.input, type), type, scale);
      x = real(part("input"), scale);
    }
    const std::string bias = model.floats(part("bias"), {op.bias.numel()}, op.bias.span<float>());
    const std::span<const std::int8_t> values = op.weights.values.span<std::int8_t>();
    const std::string w =
        weights(op.weights, {{values.begin(), values.end()}, {op.weights.values.fixed_point().scale}});
    model.add("Gemm", model.output.name, {x, w, bias}, {{"transB", std::int64_t{1}}});
  }

 private:
  const IntegerOp& op() const { return *network_.nodes()[node_].op; }
  const std::vector<int>& inputs() const { return network_.nodes()[node_].inputs; }
  std::size_t index_of(std::size_t i) const { return static_cast<std::size_t>(inputs()[i]) - 1; }
  const TensorInfo& argument(std::size_t i) const { return network_.results()[index_of(i)]; }
  const TensorInfo& result() const { return network_.results()[node_]; }
  std::string part(const char* what) const { return concat(op().name, "/", what); }
  /// Input i as it is stored, and as real numbers.
  const std::string& value_of(std::size_t i) const { return network_.nodes()[index_of(i)].op->name; }
  const std::string& real_of(std::size_t i) const { return real_[index_of(i)]; }

  // A number of an op as f32.
  float in_f32(double value) const {
    const auto result = static_cast<float>(value);
    check(std::isfinite(result), ErrorKind::usage, op().kind(), " '", op().name, "': ", value,
          " has no place in f32");
    return result;
  }

  std::vector<float> reals(const Tensor& levels, const kernels::Requantize& params) const {
    std::vector<float> values;
    for (const float level : levels.span<float>())
      values.push_back(in_f32(static_cast<double>(level) * params.format.scale));
    return values;
  }

  // The multiplier of each channel goes into the scale of its weights.
  ScaledWeights scaled(const ConvOp& op) const {
    constexpr double nothing = 0x1p-60;  // times any sum of 32 bits: less than a step, by far
    const std::span<const std::int8_t> values = op.weights.values.span<std::int8_t>();
    const std::span<const float> multipliers = op.requantize.multiplier.span<float>();
    ScaledWeights result{{values.begin(), values.end()}, {}};
    const std::size_t length = values.size() / multipliers.size();
    for (std::size_t c = 0; c < multipliers.size(); ++c) {
      const double multiplier = multipliers[c];
      float scale = in_f32(std::abs(multiplier) * op.requantize.format.scale / argument(0).format->scale);
      int sign = multiplier < 0 ? -1 : 1;
      if (!std::isnormal(scale)) {
        check(std::abs(multiplier) < nothing, ErrorKind::usage, op.kind(), " '", op.name, "': channel ", c,
              ": a scale of ", scale, " has no place in f32");
        scale = 1, sign = 0;
      }
      result.scales.push_back(scale);
      for (std::size_t i = c * length; i < (c + 1) * length; ++i)
        result.values[i] = static_cast<std::int8_t>(sign * result.values[i]);
    }
    return result;
  }

  // As real numbers. One scale is that of the layer, several are those of its filters.
  std::string weights(const QuantizedWeights& w, const ScaledWeights& stored) {
    const OnnxType type = are_narrow(w) ? OnnxType::s4 : OnnxType::s8;
    std::vector<std::int64_t> shape, per_filter;
    for (int axis = 0; axis < w.values.rank(); ++axis) shape.push_back(w.values.dim(axis));
    const std::size_t count = stored.scales.size();
    if (count > 1) per_filter = {static_cast<std::int64_t>(count)};
    const std::string values = model.add({part("weight"), type, shape, onnx_bytes(type, stored.values)});
    const std::string scales = model.floats(part("weight_scale"), per_filter, stored.scales);
    OnnxAttributes attributes;
    if (count > 1) attributes.emplace("axis", std::int64_t{0});
    return model.add("DequantizeLinear", part("weight_real"),
                     {values, scales, zero(part("weight_zero"), type, static_cast<std::int64_t>(count))},
                     std::move(attributes));
  }

  std::string zero(const std::string& name, OnnxType type, std::int64_t count = 1) {
    std::vector<std::int64_t> shape;
    if (count > 1) shape = {count};
    const std::vector<std::int8_t> zeros(static_cast<std::size_t>(count), 0);
    return model.add({name, type, std::move(shape), onnx_bytes(type, zeros)});
  }

  std::string quantize(const std::string& name, const std::string& x, OnnxType type,
                       const std::string& scale) {
    return model.add("QuantizeLinear", name, {x, scale, zero(name + "/zero", type)});
  }
  // Of a quantized value that has its zero beside it.
  std::string real(const std::string& name, const std::string& scale) {
    return model.add("DequantizeLinear", name + "/real", {name, scale, name + "/zero"});
  }

  // What QuantizeLinear would not clip by itself. ReLU is written where it does: it says what the layer is.
  std::string clipped(const std::string& x, const Activation& activation, const FixedPoint& format,
                      OnnxType type) {
    const Levels wanted = faq::levels_of(activation, format), own = levels_of(type);
    if (wanted.low == 0 && wanted.high == own.high) return model.add("Relu", part("relu"), {x});
    if (wanted.low == own.low && wanted.high == own.high) return x;
    return model.add("Clip", part("clip"),
                     {x, model.scalar(part("low"), in_f32(static_cast<double>(wanted.low) * format.scale)),
                      model.scalar(part("high"), in_f32(static_cast<double>(wanted.high) * format.scale))});
  }

  void requantized(const std::string& y, const kernels::Requantize& params) {
    quantized(clipped(y, params.activation, params.format, types_[node_]));
  }

  // The op's result, from real numbers.
  void quantized(const std::string& x) {
    const FixedPoint& format = *result().format;
    const std::string scale = model.scalar(part("scale"), format.scale);
    quantize(op().name, x, types_[node_], scale);
    real_.push_back(real(op().name, scale));
  }

  const IntegerNetwork& network_;
  const std::vector<OnnxType> types_;  // of each node's result
  std::size_t node_ = 0;
  std::vector<std::string> real_;  // of each node's result
};

}  // namespace

OnnxModel onnx_model(const IntegerNetwork& network) { return std::move(Writer(network).model); }

}  // namespace faq
