#include "train/quantized_training.h"

#include <fmt/format.h>

#include <chrono>
#include <filesystem>
#include <map>
#include <set>

#include "core/safetensors.h"
#include "core/text.h"
#include "nn/batch_norm.h"
#include "quant/compile.h"
#include "quant/deploy/layer_report.h"
#include "quant/equalize.h"
#include "quant/lost_filters.h"
#include "quant/quantize.h"
#include "train/checkpoint.h"
#include "train/run_listener.h"

namespace faq {
namespace {

// Scheme::none is Method itself.
class QuantizedTraining final : public Method {
 public:
  QuantizedTraining(const QuantRecipe& recipe, std::uint64_t seed)
      : recipe_(recipe), seed_(seed), phases_(number_formats(recipe)) {}

  bool quantizes() const override { return true; }
  int phases() const override { return static_cast<int>(phases_.size()); }

  std::string describe(int phase) const override {
    const NumberFormat& o = format_of(phase);
    if (!o.quantize_activations)
      return fmt::format("weights {} bits, activations in floating point", o.weight_bits);
    return fmt::format("weights {} bits, activations {} bits{}", o.weight_bits, o.act_bits,
                       residual_note(o.residual_bits));
  }

  std::string begin_phase(Model& model, int phase, const BatchSource& training_batches) override {
    format_ = format_of(phase);
    holds_ = false;
    const auto start = std::chrono::steady_clock::now();
    // Calibration comes first: it wants the network that has learnt, with the bits of the phase before. After
    // that only layers are equalized whose integers change anyway.
    const std::vector<LayerPlan> learnt = layer_plan(model);
    const CalibrationResult calibration = calibrate(model, training_batches(recipe_.calibration_batches));
    quantize(model, format_, &calibration);
    std::vector<std::string> dead;
    for (const LayerPlan& row : layer_plan(model)) {
      largest_[row.name] = calibration.histogram(row.name).max();
      if (largest_[row.name] == 0) dead.push_back(row.name);
    }
    if (equalize_of(recipe_) == Equalize::channels) equalize_channels(model, with_same_bits(learnt, model));
    const std::string lost = text_of(lost_filters(model));
    int batches = 0;
    // Left open, statistics are taken anew where filters have become other filters.
    if (!lost.empty() && recipe_.batch_norm_batches < 0 && batch_norm_batches_of(recipe_) == 0)
      batches = reestimate_batch_norm(model, training_batches(recipe_.calibration_batches));
    if (const int wanted = batch_norm_batches_of(recipe_); wanted > 0)
      batches = reestimate_batch_norm(model, training_batches(wanted));
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
    std::string said = fmt::format(
        "{}; calibrated on {} images{}{} in {:.1f} s", describe(phase), calibration.images,
        dead.empty() ? "" : fmt::format(", on which {} had nothing but zeros", join(dead)),
        batches > 0 ? fmt::format(", batch-norm's statistics taken from {} batches", batches) : "",
        elapsed.count());
    if (!lost.empty())
      said += fmt::format("\n{}{}{}", warning_prefix, lost,
                          batches > 0 ? "" : ": `batch_norm_batches` takes the statistics behind them anew");
    return said;
  }

  void install(Model& model, int phase) override {
    format_ = format_of(phase);
    holds_ = false;  // what is held comes with the checkpoint; to hold it again changes nothing
    quantize(model, format_, nullptr);
  }

  PrecisionPlan before_step(Model& model, double done, std::int64_t step) override {
    if (!holds_ && done >= recipe_.hold_weight_scales) {
      hold_weight_scales(model);
      holds_ = true;
    }
    if (recipe_.stochastic_precision >= 1) return {};
    return draw_precision(model,
                          quantized_probability(recipe_.stochastic_precision, recipe_.stochastic_tail, done),
                          seed_, step);
  }

  // The running averages follow weights that jump from one integer to another.
  void end_epoch(Model& model, const BatchSource& training_batches) override {
    if (const int batches = batch_norm_batches_of(recipe_); batches > 0)
      reestimate_batch_norm(model, training_batches(batches));
  }

  std::filesystem::path deploy(Model& model, const Deployment& d) override {
    if (!format_.quantize_activations) return {};
    std::filesystem::path file = d.folder / integer_network_file;
    compile(model, d.images).save(file, d.about);
    return file;
  }

  nlohmann::json layers(Model& model, const Deployment& d) override {
    if (!format_.quantize_activations) return nlohmann::json::array();
    nlohmann::json rows = nlohmann::json::array();
    for (const LayerReport& row : layer_report(compile(model, d.images))) {
      nlohmann::json j = to_json(row);
      const auto seen = largest_.find(row.name);
      if (seen != largest_.end()) j["calibrated_max"] = seen->second;
      rows.push_back(std::move(j));
    }
    return rows;
  }

 private:
  // "…: 3 of 64 in layer1.0.conv1, …"; empty for no rows.
  static std::string text_of(const std::vector<LostFilters>& rows) {
    std::vector<std::string> layers;
    for (const LostFilters& row : rows) {
      if (layers.size() == 3) {
        layers.emplace_back("…");
        break;
      }
      layers.push_back(fmt::format("{} of {} in {}", row.lost, row.filters, row.layer));
    }
    return layers.empty() ? ""
                          : "the scheme has no zero, and makes noise of filters near zero: " + join(layers);
  }

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

  const NumberFormat& format_of(int phase) const {
    check(phase >= 0 && phase < phases(), ErrorKind::bad_data, "phase ", phase, " of ", phases());
    return phases_[static_cast<std::size_t>(phase)];
  }

  QuantRecipe recipe_;
  std::uint64_t seed_;
  std::vector<NumberFormat> phases_;
  NumberFormat format_;                   // of the phase
  bool holds_ = false;                    ///< scales of weights; set anew when a run is resumed
  std::map<std::string, float> largest_;  ///< activations calibration has seen, by layer
};

}  // namespace

std::unique_ptr<Method> make_method(const TrainOptions& options) {
  if (deployed_format(options).scheme == Scheme::none) return std::make_unique<Method>();
  return std::make_unique<QuantizedTraining>(options, static_cast<std::uint64_t>(options.seed));
}

NumberFormat format_of_checkpoint(const TrainOptions& options,
                                  const std::map<std::string, std::string>& metadata,
                                  const std::string& source) {
  const std::vector<NumberFormat> formats = number_formats(options);
  const int phase = progress_in(metadata, source).phase;
  check(phase >= 0 && phase < std::ssize(formats), ErrorKind::bad_data, "checkpoint ", source, ": phase ",
        phase, " of ", formats.size());
  return formats[static_cast<std::size_t>(phase)];
}

namespace {

bool is_gone(const std::string& file) {
  std::error_code ignored;
  return !std::filesystem::exists(file, ignored);
}

}  // namespace

void refuse_integer_weights(const TrainOptions& options) {
  for (const auto& [what, file] :
       {std::pair("weights ", options.weights), std::pair("teacher ", options.teacher)}) {
    // A run that goes on has both in its checkpoint, and the files may be gone.
    if (file.empty() || (!options.resume.empty() && is_gone(file))) continue;
    check(!is_integer_network(read_safetensors_metadata(file)), ErrorKind::bad_data, what, file,
          ": an integer network cannot be trained further, nor teach; give the checkpoint it was made from");
  }
}

}  // namespace faq
