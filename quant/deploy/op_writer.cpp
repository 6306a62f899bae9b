#include "quant/deploy/integer_format.h"
#include "quant/deploy/weight_codes.h"

namespace faq {
namespace {

using nlohmann::json;

json describe(const FixedPoint& format) {
  return {{"scale", format.scale}, {"bits", format.bits}, {"signed", format.is_signed}};
}

class Writer final : public OpVisitor {
 public:
  Writer(json& j, NamedTensors& tensors) : j_(j), tensors_(tensors) {}

  void visit(const InputOp& op) override {
    j_["format"] = describe(op.table.fixed_point());
    tensors_.add(op.name + ".table", op.table);
  }
  void visit(const ConvOp& op) override {
    weights(op, op.weights);
    const ConvGeometry& geometry = op.geometry;
    j_["stride"] = geometry.stride;
    check(geometry.dilation == 1, ErrorKind::usage, "conv '", op.name, "': the format has no place for ",
          geometry);
    const Padding& p = geometry.padding;
    j_["padding"] = {p.top, p.left, p.bottom, p.right};
    j_["groups"] = geometry.groups;
    j_["residual_multiplier"] = op.requantize.residual_multiplier;
    requantize(op, op.requantize);
  }
  void visit(const NormActOp& op) override {
    j_["channels"] = op.requantize.multiplier.numel();
    requantize(op, op.requantize);
  }
  void visit(const ShortcutOp& op) override {
    j_["stride"] = op.stride;
    j_["out_channels"] = op.out_channels;
  }
  void visit(const MaxPoolOp& op) override {
    j_["kernel"] = op.options.kernel;
    j_["stride"] = op.options.stride;
    j_["padding"] = op.options.padding;
  }
  void visit(const AvgPoolOp& op) override {
    j_["kernel"] = op.options.kernel;
    j_["stride"] = op.options.stride;
    j_["padding"] = op.options.padding;
    j_["output"] = op.options.output;
  }
  void visit(const ConcatOp&) override {}
  void visit(const GlobalAvgPoolOp&) override {}
  void visit(const LinearOp& op) override {
    weights(op, op.weights);
    j_["input"] = describe(op.input);
    tensors_.add(op.name + ".multiplier", op.multiplier);
    tensors_.add(op.name + ".bias", op.bias);
  }

 private:
  void weights(const IntegerOp& op, const QuantizedWeights& weights) {
    j_["weight_bits"] = weights.bits;
    j_["weight_code"] = name_of(weights.code);
    j_["weight_scale"] = weights.values.fixed_point().scale;
    j_["weight_shape"] = weights.values.shape().extents();
    if (weights.code == WeightCode::clusters) {
      j_["cluster_size"] = weights.clusters.size;
      tensors_.add(op.name + ".scales", weights.clusters.scales);
    }
    if (weights.channel_scales) tensors_.add(op.name + ".channel_scales", weights.channel_scales);
    tensors_.add(op.name + ".weight", stored_codes(weights));
  }

  void requantize(const IntegerOp& op, const kernels::Requantize& requantize) {
    const Levels levels = levels_of(requantize.activation, requantize.format);
    check(levels.low <= levels.high, ErrorKind::usage, op.kind(), " '", op.name, "': no integer of ",
          requantize.format, " is left by the activation ", requantize.activation);
    j_["low"] = static_cast<int>(levels.low);
    j_["high"] = static_cast<int>(levels.high);
    j_["format"] = describe(requantize.format);
    tensors_.add(op.name + ".multiplier", requantize.multiplier);
    tensors_.add(op.name + ".bias", requantize.bias);
  }

  json& j_;
  NamedTensors& tensors_;
};

}  // namespace

json describe(const IntegerOp& op, NamedTensors& tensors) {
  json j{{"kind", op.kind()}, {"name", op.name}};
  Writer writer(j, tensors);
  op.accept(writer);
  return j;
}

}  // namespace faq
