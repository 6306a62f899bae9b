#include "tools/quantization.h"

#include <charconv>
#include <chrono>

#include <fmt/format.h>

#include "core/choices.h"
#include "core/cpu.h"
#include "core/safetensors.h"
#include "quant/equalize.h"
#include "quant/integer_network.h"
#include "quant/layer_report.h"
#include "quant/quantize.h"

namespace faq {
namespace {

const Choices<Scheme> schemes{{"none", Scheme::none}, {"faq", Scheme::faq}};
const Choices<Calibration> calibrations{
    {"percentile", Calibration::percentile}, {"max", Calibration::max}, {"mse", Calibration::mse}};
const Choices<WeightStep> weight_steps{{"mse", WeightStep::mse}, {"max", WeightStep::max}};
const Choices<Equalize> equalizations{{"channels", Equalize::channels}, {"none", Equalize::none}};
const Choices<Engine> engines{{"integer", Engine::integer}, {"simulated", Engine::simulated}};
const Choices<DType> grad_dtypes{{"bf16", DType::bf16}, {"f32", DType::f32}};

// PATTERN=W,A
LayerBits parse_layer_bits(const std::string& text) {
  const auto equals = text.rfind('=');
  check(equals != std::string::npos, ErrorKind::usage, "--layer-bits '", text,
        "': expected PATTERN=WEIGHT_BITS,ACTIVATION_BITS");
  LayerBits bits{text.substr(0, equals), 0, 0};
  const char* end = text.data() + text.size();
  const auto weights = std::from_chars(text.data() + equals + 1, end, bits.weight_bits);
  const bool comma = weights.ec == std::errc() && weights.ptr != end && *weights.ptr == ',';
  const auto activations = comma ? std::from_chars(weights.ptr + 1, end, bits.act_bits) : weights;
  const auto allowed = [](int b) { return b >= 2 && b <= 8; };
  check(comma && activations.ec == std::errc() && activations.ptr == end && allowed(bits.weight_bits) &&
            allowed(bits.act_bits),
        ErrorKind::usage, "--layer-bits '", text,
        "': expected PATTERN=WEIGHT_BITS,ACTIVATION_BITS, both from 2 to 8");
  return bits;
}

// Scheme none is Method itself.
class Quantization final : public Method {
 public:
  explicit Quantization(const QuantOptions& options) : options_(options) {}

  std::string prepare(Model& model, const std::function<std::optional<Tensor>()>& next_images) override {
    const auto start = std::chrono::steady_clock::now();
    const CalibrationResult calibration = calibrate(model, next_images);
    quantize(model, options_, &calibration);
    for (const LayerPlan& row : layer_plan(model)) largest_[row.name] = calibration.histogram(row.name).max();
    if (options_.equalize == Equalize::channels) equalize_channels(model);
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
    return fmt::format("calibrated on {} images in {:.1f} s", calibration.images, elapsed.count());
  }

  void install(Model& model) override { quantize(model, options_, nullptr); }

  void deploy(Model& model, const Deployment& d) override {
    IntegerNetwork::compile(model, d.height, d.width, d.channels)
        .save(d.folder / "integer.safetensors", d.about);
  }

  nlohmann::json layers(Model& model, const Deployment& d) override {
    set_training(model, false);
    nlohmann::json rows = nlohmann::json::array();
    for (const LayerReport& row :
         layer_report(IntegerNetwork::compile(model, d.height, d.width, d.channels))) {
      nlohmann::json j{{"name", row.name},
                       {"kind", row.kind},
                       {"output", row.output.extents()},
                       {"macs", row.macs},
                       {"weight_bits", row.weight_bits},
                       {"weight_step", row.weight_step},
                       {"weight_bytes", row.weight_bytes},
                       {"activation_bytes", row.activation_bytes}};
      if (row.activation) {
        j["act_bits"] = row.activation->bits;
        j["act_step"] = row.activation->step;
        j["act_signed"] = row.activation->is_signed;
        j["act_max"] = static_cast<float>(row.activation->max()) * row.activation->step;
      }
      const auto seen = largest_.find(row.name);
      if (seen != largest_.end()) j["calibrated_max"] = seen->second;
      rows.push_back(std::move(j));
    }
    return rows;
  }

 private:
  QuantOptions options_;
  std::map<std::string, float> largest_;  ///< activations calibration has seen, by layer
};

}  // namespace

Engine parse_engine(const std::string& text) { return choose("engine", text, engines); }

QuantOptions quant_options(const TrainOptions& o) {
  QuantOptions r;
  r.scheme = choose("scheme", o.scheme, schemes);
  r.weight_bits = o.weight_bits;
  r.act_bits = o.act_bits;
  r.first_last_bits = o.first_last_bits;
  for (const std::string& text : o.layer_bits) r.layer_bits.push_back(parse_layer_bits(text));
  r.calibration = choose("calibration", o.calibration, calibrations);
  r.percentile = o.calibration_percentile;
  check(r.percentile == 0 || r.calibration == Calibration::percentile, ErrorKind::usage,
        "--calibration-percentile ", r.percentile, " has no effect with --calibration ", o.calibration);
  r.weight_step = choose("weight-step", o.weight_step, weight_steps);
  r.equalize = choose("equalize", o.equalize, equalizations);
  r.engine = parse_engine(o.engine);
  const bool native = r.scheme != Scheme::none && has_native_bf16();
  r.grad_dtype = o.grad_dtype.empty() ? (native ? DType::bf16 : DType::f32)
                                      : choose("grad-dtype", o.grad_dtype, grad_dtypes);
  check(r.grad_dtype == DType::f32 || has_native_bf16(), ErrorKind::usage, "--grad-dtype bf16: this CPU (",
        isa_name(), ") has no native bf16; use f32");
  check(r.grad_dtype == DType::f32 || r.scheme != Scheme::none, ErrorKind::usage,
        "--grad-dtype bf16: floating-point training (--scheme none) uses f32 gradients");
  return r;
}

std::unique_ptr<Method> make_method(const TrainOptions& options) {
  const QuantOptions quant = quant_options(options);
  if (quant.scheme == Scheme::none) return std::make_unique<Method>();
  return std::make_unique<Quantization>(quant);
}

void refuse_integer_weights(const TrainOptions& options) {
  if (options.weights.empty()) return;
  check(!is_integer_network(read_safetensors_metadata(options.weights)), ErrorKind::bad_data, "weights ",
        options.weights,
        ": an integer network cannot be trained further; give the checkpoint it was made from");
}

}  // namespace faq
