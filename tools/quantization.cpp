#include "tools/quantization.h"

#include <charconv>
#include <chrono>
#include <set>

#include <fmt/format.h>

#include "core/choices.h"
#include "core/cpu.h"
#include "core/safetensors.h"
#include "core/text.h"
#include "nn/batch_norm.h"
#include "quant/compile.h"
#include "quant/deploy/layer_report.h"
#include "quant/dfp_scheme.h"
#include "quant/dorefa_scheme.h"
#include "quant/equalize.h"
#include "quant/quantize.h"
#include "train/checkpoint.h"

namespace faq {
namespace {

const Choices<Scheme> schemes{
    {"none", Scheme::none}, {"faq", Scheme::faq}, {"dfp", Scheme::dfp}, {"dorefa", Scheme::dorefa}};
const Choices<kernels::TernaryScale> ternary_scales{{"rms", kernels::TernaryScale::rms},
                                                    {"least-squares", kernels::TernaryScale::least_squares}};
const Choices<Calibration> calibrations{
    {"percentile", Calibration::percentile}, {"max", Calibration::max}, {"mse", Calibration::mse}};
const Choices<WeightScale> weight_scales{{"mse", WeightScale::mse}, {"max", WeightScale::max}};
const Choices<Equalize> equalizations{{"channels", Equalize::channels}, {"none", Equalize::none}};
const Choices<Engine> engines{{"integer", Engine::integer}, {"simulated", Engine::simulated}};
const Choices<GradFormat> grad_formats{{"bf16", GradFormat::bf16}, {"f32", GradFormat::f32}};

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

struct Width {
  int weights, activations;
  bool operator==(const Width&) const = default;
};

// Scheme none is Method itself.
class Quantization final : public Method {
 public:
  struct StochasticPrecision {
    double start = 1;
    double tail = 0;
    std::uint64_t seed = 0;
  };
  Quantization(std::vector<QuantOptions> phases, const StochasticPrecision& stochastic)
      : phases_(std::move(phases)), stochastic_(stochastic) {}

  int phases() const override { return static_cast<int>(phases_.size()); }

  std::string describe(int phase) const override {
    const QuantOptions& o = options_of(phase);
    return fmt::format("weights {} bits, activations {}", o.weight_bits,
                       o.quantize_activations ? fmt::format("{} bits", o.act_bits) : "in floating point");
  }

  std::string begin_phase(Model& model, int phase, const BatchSource& training_batches) override {
    options_ = options_of(phase);
    holds_ = false;
    const auto start = std::chrono::steady_clock::now();
    // Calibration comes first: it wants the network that has learnt, with the bits of the phase before. After
    // that only layers are equalized whose integers change anyway.
    const std::vector<LayerPlan> learnt = layer_plan(model);
    const CalibrationResult calibration = calibrate(model, training_batches(options_.calibration_batches));
    quantize(model, options_, &calibration);
    std::vector<std::string> dead;
    for (const LayerPlan& row : layer_plan(model)) {
      largest_[row.name] = calibration.histogram(row.name).max();
      if (largest_[row.name] == 0) dead.push_back(row.name);
    }
    if (options_.equalize == Equalize::channels) equalize_channels(model, with_same_bits(learnt, model));
    int batches = 0;
    if (options_.batch_norm_batches > 0)
      batches = reestimate_batch_norm(model, training_batches(options_.batch_norm_batches));
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
    return fmt::format(
        "{}; calibrated on {} images{}{} in {:.1f} s", describe(phase), calibration.images,
        dead.empty() ? "" : fmt::format(", on which {} had nothing but zeros", join(dead)),
        batches > 0 ? fmt::format(", batch-norm's statistics taken from {} batches", batches) : "",
        elapsed.count());
  }

  void install(Model& model, int phase) override {
    options_ = options_of(phase);
    holds_ = false;  // what is held comes with the checkpoint; to hold it again changes nothing
    quantize(model, options_, nullptr);
  }

  PrecisionPlan before_step(Model& model, double done, std::int64_t step) override {
    if (!holds_ && done >= options_.hold_weight_scales) {
      hold_weight_scales(model);
      holds_ = true;
    }
    if (stochastic_.start >= 1) return {};
    return draw_precision(model, quantized_probability(stochastic_.start, stochastic_.tail, done),
                          stochastic_.seed, step);
  }

  // The running averages follow weights that jump from one integer to another.
  void end_epoch(Model& model, const BatchSource& training_batches) override {
    if (options_.batch_norm_batches == 0) return;
    reestimate_batch_norm(model, training_batches(options_.batch_norm_batches));
  }

  void deploy(Model& model, const Deployment& d) override {
    if (!options_.quantize_activations) return;
    compile(model, d.images).save(d.folder / "integer.safetensors", d.about);
  }

  nlohmann::json layers(Model& model, const Deployment& d) override {
    if (!options_.quantize_activations) return nlohmann::json::array();
    nlohmann::json rows = nlohmann::json::array();
    for (const LayerReport& row : layer_report(compile(model, d.images))) {
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
      const auto seen = largest_.find(row.name);
      if (seen != largest_.end()) j["calibrated_max"] = seen->second;
      rows.push_back(std::move(j));
    }
    return rows;
  }

 private:
  static std::set<std::string> with_same_bits(const std::vector<LayerPlan>& before, Model& model) {
    std::map<std::string, int> bits;
    for (const LayerPlan& row : before) bits[row.name] = row.weight_bits;
    std::set<std::string> same;
    for (const LayerPlan& row : layer_plan(model)) {
      const auto was = bits.find(row.name);
      if (was != bits.end() && was->second == row.weight_bits) same.insert(row.name);
    }
    return same;
  }

  const QuantOptions& options_of(int phase) const {
    check(phase >= 0 && phase < phases(), ErrorKind::bad_data, "phase ", phase, " of ", phases());
    return phases_[static_cast<std::size_t>(phase)];
  }

  std::vector<QuantOptions> phases_;
  StochasticPrecision stochastic_;
  QuantOptions options_;                  // of the phase
  bool holds_ = false;                    ///< steps of weights, since it began or was gone on with
  std::map<std::string, float> largest_;  ///< activations calibration has seen, by layer
};

}  // namespace

Scheme parse_scheme(const std::string& text) { return choose("scheme", text, schemes); }
Engine parse_engine(const std::string& text) { return choose("engine", text, engines); }

namespace {

QuantOptions options_at_one_width(const TrainOptions& o) {
  QuantOptions r;
  r.scheme = parse_scheme(o.scheme);
  r.weight_bits = o.weight_bits;
  r.act_bits = o.act_bits;
  r.first_last_bits = o.first_last_bits;
  for (const std::string& text : o.layer_bits) r.layer_bits.push_back(parse_layer_bits(text));
  r.calibration = choose("calibration", o.calibration, calibrations);
  r.percentile = o.calibration_percentile;
  check(r.percentile == 0 || r.calibration == Calibration::percentile, ErrorKind::usage,
        "--calibration-percentile ", r.percentile, " has no effect with --calibration ", o.calibration);
  r.weight_scale = choose("weight-step", o.weight_scale, weight_scales);
  r.hold_weight_scales = o.hold_weight_scales;
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
  r.grad_format = o.grad_dtype.empty() ? (native ? GradFormat::bf16 : GradFormat::f32)
                                       : choose("grad-dtype", o.grad_dtype, grad_formats);
  check(r.grad_format == GradFormat::f32 || has_native_bf16(), ErrorKind::usage,
        "--grad-dtype bf16: this CPU (", isa_name(), ") has no native bf16; use f32");
  check(r.grad_format == GradFormat::f32 || r.scheme != Scheme::none, ErrorKind::usage,
        "--grad-dtype bf16: floating-point training (--scheme none) uses f32 gradients");
  return r;
}

// "4" or "4/8".
Width parse_width(const std::string& text) {
  const auto slash = text.find('/');
  const auto number = [&](const std::string& part) {
    int bits = 0;
    const char* end = part.data() + part.size();
    const auto parsed = std::from_chars(part.data(), end, bits);
    check(parsed.ec == std::errc() && parsed.ptr == end && bits >= 2 && bits <= 8, ErrorKind::usage,
          "--bits-schedule '", text, "': expected bits from 2 to 8, or WEIGHTS/ACTIVATIONS");
    return bits;
  };
  const int weights = number(text.substr(0, slash));
  return {weights, slash == std::string::npos ? weights : number(text.substr(slash + 1))};
}

}  // namespace

std::vector<QuantOptions> quant_phases(const TrainOptions& o) {
  std::vector<Width> widths;
  if (!o.bits_schedule.empty())
    for (const std::string& part : split(o.bits_schedule)) widths.push_back(parse_width(part));
  for (std::size_t i = 1; i < widths.size(); ++i) {
    const Width &before = widths[i - 1], &now = widths[i];
    check(now.weights <= before.weights && now.activations <= before.activations && now != before,
          ErrorKind::usage, "--bits-schedule ", o.bits_schedule,
          ": expected fewer bits from one to the next");
  }
  const bool given = !widths.empty();
  if (!given) widths.push_back({o.weight_bits, o.act_bits});
  std::vector<QuantOptions> phases;
  for (const Width& width : widths) {
    TrainOptions at_width = o;
    at_width.weight_bits = width.weights;
    at_width.act_bits = width.activations;
    phases.push_back(options_at_one_width(at_width));
  }
  const Scheme scheme = phases.front().scheme;
  check(o.stages == "both" || o.stages == "weights,both", ErrorKind::usage, "--stages ", o.stages,
        ": expected both, or weights,both");
  const bool methods = given || o.stages != "both" || o.stochastic_precision < 1;
  check(!methods || scheme != Scheme::none, ErrorKind::usage,
        "--stages, --bits-schedule and --stochastic-precision are ways to quantize: they want a --scheme");
  if (o.stages != "both") {
    QuantOptions weights_alone = phases.front();
    weights_alone.quantize_activations = false;
    phases.insert(phases.begin(), weights_alone);
  }
  return phases;
}

QuantOptions quant_options(const TrainOptions& options) { return quant_phases(options).back(); }

QuantOptions quant_options_at(const TrainOptions& options, const std::map<std::string, std::string>& metadata,
                              const std::string& source) {
  return quant_phases(options).at(static_cast<std::size_t>(progress_in(metadata, source).phase));
}

std::unique_ptr<Method> make_method(const TrainOptions& options) {
  std::vector<QuantOptions> phases = quant_phases(options);
  if (phases.front().scheme == Scheme::none) return std::make_unique<Method>();
  return std::make_unique<Quantization>(
      std::move(phases),
      Quantization::StochasticPrecision{options.stochastic_precision, options.stochastic_tail,
                                        static_cast<std::uint64_t>(options.seed)});
}

void refuse_integer_weights(const TrainOptions& options) {
  for (const auto& [what, file] :
       {std::pair("weights ", options.weights), std::pair("teacher ", options.teacher)}) {
    // A run that goes on has both in its checkpoint, and the files may be gone.
    if (file.empty() || (!options.resume.empty() && !std::filesystem::exists(file))) continue;
    check(!is_integer_network(read_safetensors_metadata(file)), ErrorKind::bad_data, what, file,
          ": an integer network cannot be trained further, nor teach; give the checkpoint it was made from");
  }
}

}  // namespace faq
