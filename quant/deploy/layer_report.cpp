#include "quant/deploy/layer_report.h"

#include <numeric>

#include "quant/deploy/integer_format.h"

namespace faq {
namespace {

Shape without_batch(const Shape& shape) {
  const auto extents = shape.extents();
  return Shape(extents.subspan(1));
}

// Every output element is a sum over all weights of its channel.
void add_weights(LayerReport& row, const QuantizedWeights& weights) {
  const Tensor& values = weights.values;
  row.macs = row.output.numel() * (values.numel() / values.dim(0));
  row.weight_bits = weights.bits;
  row.weight_scale = values.fixed_point().scale;
  if (weights.channel_scales) {
    const auto scales = weights.channel_scales.span<float>();
    row.weight_scale *=
        std::accumulate(scales.begin(), scales.end(), 0.0f) / static_cast<float>(scales.size());
  }
  // The inputs of a group are added or subtracted, and the sum is multiplied once by the group's scale.
  row.multiplications = weights.code == WeightCode::clusters && weights.bits == 2
                            ? row.output.numel() * weights.clusters.scales.dim(1)
                            : row.macs;
}

// A classifier makes f32 logits, so its row shows the format of its input.
class ClassifierInput final : public PartialOpVisitor {
 public:
  explicit ClassifierInput(LayerReport& row) : row_(row) {}
  using PartialOpVisitor::visit;
  void visit(const LinearOp& op) override { row_.activation = op.input; }

 private:
  LayerReport& row_;
};

}  // namespace

std::vector<LayerReport> layer_report(const IntegerNetwork& network) {
  std::vector<LayerReport> rows;
  for (std::size_t i = 0; i < network.nodes().size(); ++i) {
    const IntegerOp& op = *network.nodes()[i].op;
    const TensorInfo& result = network.results()[i];
    LayerReport row;
    row.name = op.name;
    row.kind = op.kind();
    row.output = without_batch(result.shape);
    if (const QuantizedWeights* weights = weights_of(op)) add_weights(row, *weights);
    if (result.dtype == DType::u8 || result.dtype == DType::s8) row.activation = result.format;
    ClassifierInput input(row);
    op.accept(input);
    NamedTensors stored;
    describe(op, stored);
    for (const auto& [name, tensor] : stored.tensors)
      row.weight_bytes += static_cast<std::int64_t>(tensor.bytes());
    row.activation_bytes = result.bytes();
    rows.push_back(std::move(row));
  }
  return rows;
}

nlohmann::json to_json(const LayerReport& row) {
  nlohmann::json j{{"name", row.name},
                   {"kind", row.kind},
                   {"output", row.output.extents()},
                   {"macs", row.macs},
                   {"multiplications", row.multiplications},
                   {"weight_bits", row.weight_bits},
                   {"weight_scale", row.weight_scale},
                   {"weight_bytes", row.weight_bytes},
                   {"activation_bytes", row.activation_bytes}};
  if (row.activation) {
    j["act_bits"] = row.activation->bits;
    j["act_scale"] = row.activation->scale;
    j["act_signed"] = row.activation->is_signed;
    j["act_max"] = static_cast<float>(row.activation->max()) * row.activation->scale;
  }
  return j;
}

}  // namespace faq
