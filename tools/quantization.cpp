#include "tools/quantization.h"

#include <charconv>
#include <chrono>

#include <fmt/format.h>

#include "core/choices.h"
#include "core/cpu.h"
#include "core/safetensors.h"
#include "nn/batch_norm.h"
#include "quant/dfp_scheme.h"
#include "quant/dorefa_scheme.h"
#include "quant/equalize.h"
#include "quant/integer_network.h"
#include "quant/layer_report.h"
#include "quant/quantize.h"

namespace faq {
namespace {

const Choices<Scheme> schemes{
    {"none", Scheme::none}, {"faq", Scheme::faq}, {"dfp", Scheme::dfp}, {"dorefa", Scheme::dorefa}};
const Choices<kernels::TernaryScale> ternary_scales{{"rms", kernels::TernaryScale::rms},
                                                    {"least-squares", kernels::TernaryScale::least_squares}};
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

// A number of input channels, or "all" (0).
std::int64_t parse_cluster_size(const std::string& text) {
  if (text == "all") return 0;
  std::int64_t size = 0;
  const char* end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, size);
  check(parsed.ec == std::errc() && parsed.ptr == end && size >= 1 && size <= (1 << 20), ErrorKind::usage,
        "--cluster-size '", text, "': expected a number of input channels, or all");
  return size;
}

// Scheme none is Method itself.
class Quantization final : public Method {
 public:
  explicit Quantization(const QuantOptions& options) : options_(options) {}

  std::string prepare(Model& model, const BatchSource& training_batches) override {
    const auto start = std::chrono::steady_clock::now();
    const CalibrationResult calibration = calibrate(model, training_batches(options_.calibration_batches));
    quantize(model, options_, &calibration);
    for (const LayerPlan& row : layer_plan(model)) largest_[row.name] = calibration.histogram(row.name).max();
    if (options_.equalize == Equalize::channels) equalize_channels(model);
    int batches = 0;
    if (options_.batch_norm_batches > 0)
      batches = reestimate_batch_norm(model, training_batches(options_.batch_norm_batches));
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
    return fmt::format(
        "calibrated on {} images{} in {:.1f} s", calibration.images,
        batches > 0 ? fmt::format(", batch-norm's statistics taken from {} batches", batches) : "",
        elapsed.count());
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
                       {"multiplications", row.multiplications},
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
  const bool is_faq = r.scheme == Scheme::faq;
  r.equalize = o.equalize.empty() ? (is_faq ? Equalize::channels : Equalize::none)
                                  : choose("equalize", o.equalize, equalizations);
  check(r.equalize == Equalize::none || is_faq, ErrorKind::usage, "--equalize ", o.equalize,
        ": it fits weights to the step --scheme faq gives a layer; ", o.scheme, " has none");
  r.cluster_size = parse_cluster_size(o.cluster_size);
  r.ternary_scale = choose("ternary-scale", o.ternary_scale, ternary_scales);
  check(r.scheme != Scheme::dfp || r.weight_bits <= max_cluster_bits, ErrorKind::usage, "--weight-bits ",
        r.weight_bits, " with --scheme dfp: clusters are for ", max_cluster_bits,
        " bits or fewer; use --scheme faq");
  check(r.scheme != Scheme::dorefa || r.weight_bits <= max_dorefa_bits, ErrorKind::usage, "--weight-bits ",
        r.weight_bits, " with --scheme dorefa: its ", r.weight_bits,
        "-bit weights are odd integers up to 255, which are no 8-bit integers; use ", max_dorefa_bits,
        " bits or fewer, or --scheme faq");
  r.calibration_batches = o.calibration_batches;
  r.batch_norm_batches = o.batch_norm_batches >= 0 ? o.batch_norm_batches
                         : r.scheme == Scheme::dfp ? o.calibration_batches
                                                   : 0;
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
