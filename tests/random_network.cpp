#include "tests/random_network.h"

namespace faq::testing {

std::ostream& operator<<(std::ostream& out, const Case& c) {
  out << c.model << " of " << c.channels << "x" << c.size << "x" << c.size << ", " << c.classes
      << " classes, w" << c.weight_bits << " a" << c.act_bits << " first and last " << c.first_last_bits;
  if (c.residual_bits > 0) out << " residual " << c.residual_bits;
  for (const LayerBits& o : c.layer_bits)
    out << ", " << o.pattern << "=" << o.weight_bits << "," << o.act_bits;
  if (c.scheme == Scheme::dfp) out << ", dfp in clusters of " << c.cluster_size;
  if (c.scheme == Scheme::dorefa) out << ", dorefa";
  if (c.scheme == Scheme::lsq)
    out << ", lsq, a scale for each " << (c.scale_sharing == ScaleSharing::layer ? "layer" : "channel");
  return out << (c.norms == Norms::ties ? ", ties" : "")
             << (c.weight_scale == WeightScale::max ? ", max" : "");
}

Tensor images_for(const Case& c, int count, std::uint64_t salt) {
  return reference::random_integers<std::uint8_t>({count, c.size, c.size, c.channels}, salt, 0, 255);
}

void randomize_norms(Model& model, Norms norms) {
  std::uint64_t salt = 1000;
  for_each_unit(model, [&](const std::string&, Unit& unit) {
    auto* conv = dynamic_cast<ConvUnit*>(&unit);
    auto* norm_act = dynamic_cast<NormAct*>(&unit);
    if (conv && !conv->has_batch_norm()) {
      const Tensor bias = reference::random(conv->norm().beta.shape(), salt++, -0.2, 0.2);
      if (conv->norm().beta.requires_grad())
        std::ranges::copy(bias.span<float>(), conv->norm().beta.mutable_value().mutable_data<float>());
      return;
    }
    if (!conv && !norm_act) return;
    NormState& norm = conv ? conv->norm() : norm_act->norm();
    const Shape shape = norm.running_mean.shape();
    const auto fill = [&](Tensor& t, double low, double high) {
      const Tensor values = reference::random(shape, salt++, low, high);
      std::ranges::copy(values.span<float>(), t.mutable_data<float>());
    };
    if (norms == Norms::ties) {
      fill(norm.running_variance, 1 - 1e-5, 1 - 1e-5);
      return;
    }
    fill(norm.gamma.mutable_value(), 0.4, 1.2);
    norm.gamma.mutable_value().mutable_data<float>()[1] *= -1;  // networks do learn negative ones
    fill(norm.beta.mutable_value(), -0.5, 0.5);
    fill(norm.running_mean, -0.5, 0.5);
    if (norm.conv_bias) fill(norm.conv_bias.mutable_value(), -0.3, 0.3);
    fill(norm.running_variance, 0.5, 3);
  });
}

Calibrated calibrated_model(const Case& c) {
  auto model = make_model(c.model, {c.classes, c.channels, {}, {}});
  initialize(*model, 5);
  randomize_norms(*model, c.norms);
  CalibrationResult seen = calibrate(*model, [&, left = 2]() mutable -> std::optional<Tensor> {
    if (left-- == 0) return {};
    return images_for(c, 2, static_cast<std::uint64_t>(200 + left));
  });
  return {std::move(model), std::move(seen)};
}

void quantize_as(const Case& c, Engine engine, Model& model, const CalibrationResult& seen) {
  NumberFormat options;
  options.scheme = c.scheme;
  options.cluster_size = c.cluster_size;
  options.weight_bits = c.weight_bits;
  options.act_bits = c.act_bits;
  options.first_last_bits = c.first_last_bits;
  options.residual_bits = c.residual_bits;
  options.layer_bits = c.layer_bits;
  options.weight_scale = c.weight_scale;
  options.scale_sharing = c.scale_sharing;
  options.engine = engine;
  quantize(model, options, &seen);
}

std::unique_ptr<Model> quantized_model(const Case& c, Engine engine) {
  Calibrated calibrated = calibrated_model(c);
  quantize_as(c, engine, *calibrated.model, calibrated.seen);
  return std::move(calibrated.model);
}

IntegerNetwork compile(Model& model, const Case& c) {
  return faq::compile(model, c.size, c.size, c.channels);
}

bool same_result(const Tensor& a, const Tensor& b) {
  return reference::same_bytes(a, b) && a.is_fixed_point() == b.is_fixed_point() &&
         (!a.is_fixed_point() || a.fixed_point() == b.fixed_point());
}

std::vector<Tensor> tape_values(Model& model, const Tensor& images) {
  const Var input(images);
  std::vector<Tensor> values;
  for (const Var& var : topological_order(model.forward({}, input))) {
    if (!var.same_node(input)) values.push_back(var.value());
  }
  return values;
}

void check_same_results(const char* what, const IntegerNetwork& network, const std::vector<Tensor>& actual,
                        const std::vector<Tensor>& expected) {
  INFO(what);
  REQUIRE(actual.size() == expected.size());
  REQUIRE(actual.size() == network.nodes().size());
  for (std::size_t i = 0; i < actual.size(); ++i) {
    INFO(network.nodes()[i].op->kind() << " '" << network.nodes()[i].op->name << "'");
    CHECK(same_result(actual[i], expected[i]));
  }
}

}  // namespace faq::testing
