#include "train/report_details.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>

#include "core/kernels/elementwise.h"
#include "core/text.h"
#include "data/encode.h"
#include "data/transforms.h"
#include "nn/models.h"
#include "quant/deploy/layer_report.h"
#include "quant/weight_scales.h"
#include "train/checkpoint.h"
#include "train/confusion.h"
#include "train/evaluate.h"
#include "train/evaluation_data.h"
#include "train/open_network.h"
#include "train/weight_analyses.h"

namespace faq {
namespace {

using nlohmann::json;
namespace limits = report_limits;

json stage(const char* name, const Evaluation& e, std::int64_t bytes) {
  json row{{"name", name}, {"top1", e.top1}, {"top5", e.top5}, {"loss", e.loss}, {"images", e.images}};
  if (e.images_per_s > 0) row["images_per_s"] = e.images_per_s;
  if (bytes > 0) row["bytes"] = bytes;
  return row;
}

std::string base64(const std::string& bytes) {
  constexpr const char* digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    const std::size_t count = std::min<std::size_t>(3, bytes.size() - i);
    std::uint32_t group = 0;
    for (std::size_t k = 0; k < 3; ++k)
      group = group << 8 | (k < count ? static_cast<unsigned char>(bytes[i + k]) : 0u);
    for (std::size_t k = 0; k < 4; ++k) text += k <= count ? digits[group >> (18 - 6 * k) & 63u] : '=';
  }
  return text;
}

// --- histograms

// The integers of a layer, counted one by one.
class Codes {
 public:
  void add(const Tensor& values) {
    format_ = values.fixed_point();
    values.dtype() == DType::u8 ? count<std::uint8_t>(values) : count<std::int8_t>(values);
  }
  bool empty() const { return all_ == 0; }
  // Percent of the values that are at an end of the range which clips: unsigned ones clip at the top alone,
  // as what is below 0 is an activation's business.
  double clipped() const {
    const std::int64_t ends = at(format_.max()) + (format_.is_signed ? at(format_.min()) : 0);
    return 100.0 * static_cast<double>(ends) / static_cast<double>(all_);
  }
  // Bars of as many codes as it takes.
  json bars() const {
    const int range = format_.max() - format_.min() + 1;
    const int width = (range + static_cast<int>(limits::bars) - 1) / static_cast<int>(limits::bars);
    json counts = json::array();
    for (int first = format_.min(); first <= format_.max(); first += width) {
      std::int64_t sum = 0;
      for (int code = first; code < first + width && code <= format_.max(); ++code) sum += at(code);
      counts.push_back(sum);
    }
    return {{"first", format_.min()}, {"width", width}, {"scale", format_.scale}, {"counts", counts}};
  }

 private:
  template <class Code>
  void count(const Tensor& values) {
    for (const Code code : values.span<Code>()) ++counts_[static_cast<std::size_t>(code + zero)];
    all_ += values.numel();
  }
  std::int64_t at(int code) const {
    const auto place = static_cast<std::size_t>(code + zero);  // a negative one is beyond the end
    return place < counts_.size() ? counts_[place] : 0;
  }

  static constexpr int zero = 128;
  FixedPoint format_;
  std::vector<std::int64_t> counts_ = std::vector<std::int64_t>(128 + 256);
  std::int64_t all_ = 0;
};

json histogram(std::span<const float> values) {
  float largest = 0;
  for (const float v : values)
    if (std::isfinite(v)) largest = std::max(largest, std::abs(v));
  std::vector<std::int64_t> counts(limits::bars);
  for (const float v : values) {
    if (!std::isfinite(v)) continue;
    const float place = largest > 0 ? (v / largest + 1) / 2 * static_cast<float>(limits::bars) : 0.0f;
    ++counts[std::min(static_cast<std::size_t>(place), limits::bars - 1)];
  }
  return {{"low", -largest}, {"high", largest}, {"counts", counts}};
}

// The master weights of a layer beside the integers they become. `masters` may be null.
void add_weights(json& row, const QuantizedWeights& weights, const Tensor* masters, bool with_histograms) {
  Codes codes;
  codes.add(weights.values);
  const bool fixed_point = weights.code == WeightCode::fixed_point;
  if (fixed_point) row["weights_clipped"] = codes.clipped();
  if (with_histograms) row["weights"] = codes.bars();
  // DoReFa's integers stand for a function of the weights, not for the weights.
  if (masters == nullptr || weights.code == WeightCode::odd) return;
  const Tensor floats = kernels::convert(*masters, DType::f32);
  const auto w = floats.span<float>();
  if (with_histograms) row["masters"] = histogram(w);
  if (!fixed_point) return;
  // An integer at the end of the range may be right; a weight beyond its half step is clipped.
  const FixedPoint& format = weights.values.fixed_point();
  const float edge = (static_cast<float>(format.max()) + 0.5f) * format.scale;
  const auto beyond = std::ranges::count_if(w, [edge](float v) { return std::abs(v) > edge; });
  row["weights_clipped"] = 100.0 * static_cast<double>(beyond) / static_cast<double>(w.size());
}

// --- wrong predictions

struct Mistake {
  std::int64_t sample = 0;
  std::int32_t label = 0, predicted = 0;
  double probability = 0;
  Image image = {};
};

// Keeps those with the largest probability.
class Mistakes {
 public:
  void add(const Batch& batch, const Tensor& logits) {
    const auto classes = static_cast<std::size_t>(logits.dim(1));
    for (std::size_t i = 0; i < batch.labels.size(); ++i) {
      const auto row = logits.span<float>().subspan(i * classes, classes);
      const std::int32_t predicted = predicted_class(row);
      if (predicted == batch.labels[i]) continue;
      double sum = 0;
      for (const float z : row)
        sum += std::exp(static_cast<double>(z) - row[static_cast<std::size_t>(predicted)]);
      keep({batch.samples[i], batch.labels[i], predicted, 1 / sum, {}}, batch.images,
           static_cast<std::int64_t>(i));
    }
  }

  json rows(const Dataset& dataset) {
    json result = json::array();
    std::size_t bytes = 0;
    for (const Mistake& m : kept_) {
      const int longer = std::max(m.image.height, m.image.width);
      const Image small = longer <= limits::image_side
                              ? m.image
                              : resize(m.image, std::max(1, m.image.height * limits::image_side / longer),
                                       std::max(1, m.image.width * limits::image_side / longer));
      const std::string jpeg = encode_jpeg(small, 88);
      bytes += jpeg.size();
      if (bytes > limits::image_bytes) break;
      result.push_back({{"image", shortened(dataset.name(m.sample), limits::name_bytes)},
                        {"label", m.label},
                        {"predicted", m.predicted},
                        {"probability", m.probability},
                        {"jpeg", base64(jpeg)}});
    }
    return result;
  }

 private:
  void keep(Mistake&& mistake, const Tensor& images, std::int64_t row) {
    const auto place =
        std::ranges::upper_bound(kept_, mistake.probability, std::greater<>(), &Mistake::probability);
    if (place == kept_.end() && kept_.size() == limits::images) return;
    const Tensor one = images.rows(row, row + 1);
    const auto pixels = one.span<std::uint8_t>();
    mistake.image = {static_cast<int>(one.dim(1)), static_cast<int>(one.dim(2)), static_cast<int>(one.dim(3)),
                     std::vector<std::uint8_t>(pixels.begin(), pixels.end())};
    kept_.insert(place, std::move(mistake));
    if (kept_.size() > limits::images) kept_.pop_back();
  }

  std::vector<Mistake> kept_;  // the largest probability first
};

// --- the whole

class Details {
 public:
  Details(const TrainOptions& options, const TrainResult& result, RunListener& listener,
          const StopToken& stop)
      : options_(options), result_(result), listener_(listener), stop_(stop) {}

  json gather() {
    const bool quantized = options_.scheme != Scheme::none;
    if (quantized && !options_.weights.empty())
      attempt("the network before quantizing", [this] { float_stage(); });
    if (result_.initial.images > 0)
      details_["stages"].push_back(stage(quantized ? "calibrated" : "before training", result_.initial,
                                         options_.epochs == 0 ? bytes_of_result() : 0));
    if (options_.epochs > 0)
      details_["stages"].push_back(
          stage(quantized ? "fine-tuned" : "trained", result_.best, bytes_of_result()));
    attempt("the network of the run", [this] { best_network(); });
    return std::move(details_);
  }

 private:
  template <class Work>
  void attempt(const char* what, Work&& work) {
    try {
      work();
    } catch (const Error& error) {
      if (error.kind() == ErrorKind::internal || error.kind() == ErrorKind::out_of_memory) throw;
      details_["notes"].push_back(concat(what, ": ", error.what()));
    }
  }

  std::filesystem::path file(const char* name) const {
    return std::filesystem::path(options_.output_dir) / name;
  }

  std::int64_t parameter_bytes() const {
    constexpr std::int64_t bytes_of_f32 = 4;
    return bytes_of_f32 * model_cost(options_.model, {.num_classes = options_.num_classes,
                                                      .in_channels = options_.in_channels})
                              .parameters;
  }
  std::int64_t bytes_of_result() const {
    std::error_code none;
    const auto bytes = std::filesystem::file_size(file(integer_network_file), none);
    return none ? options_.scheme == Scheme::none ? parameter_bytes() : 0 : static_cast<std::int64_t>(bytes);
  }

  void float_stage() {
    NetworkChoice choice{
        .weights = options_.weights, .ignore_extra = options_.ignore_extra, .engine = options_.engine};
    if (!describes_itself(options_.weights)) {
      choice.model = options_.model;
      choice.num_classes = options_.num_classes;
      choice.in_channels = options_.in_channels;
      choice.mean = options_.mean;
      choice.std = options_.std;
    }
    const Network network = open_network(choice);
    const EvaluationData data = open_evaluation_data(network, options_, options_.batch_size);
    Scores scores;
    const Evaluation e = evaluate(network.forward, *data.loader, scores, listener_, stop_);
    const bool is_float = !network.quantized && !network.deployed;
    details_["stages"].push_back(
        stage(is_float ? "float" : "given weights", e, is_float ? parameter_bytes() : 0));
  }

  void best_network() {
    const std::string best = file("best.safetensors").string(), integer = file(integer_network_file).string();
    std::error_code ignored;
    const bool deployed = std::filesystem::exists(integer, ignored);
    const Network network = open_network({.weights = deployed ? integer : best, .engine = options_.engine});
    const EvaluationData data = open_evaluation_data(network, options_, options_.batch_size);
    Confusion confusion;
    Mistakes mistakes;
    std::map<std::string, Codes> activations;
    // Evenly spread: images of a class may lie together.
    const std::int64_t every = std::max<std::int64_t>(1, data.dataset->size() / limits::sample);
    Scores scores;
    const double seconds = for_each_batch(
        network.forward, *data.loader,
        [&](const Batch& batch, const Tensor& logits) {
          scores.add(logits, batch.labels);
          confusion.add(logits, batch.labels);
          mistakes.add(batch, logits);
          if (!network.deployed) return;
          for (std::int64_t i = 0; i < batch.size(); ++i)
            if (batch.samples[static_cast<std::size_t>(i)] % every == 0)
              for (const Network::Layer& layer : network.layers(batch.images.rows(i, i + 1)))
                if (layer.value.dtype() == DType::u8 || layer.value.dtype() == DType::s8)
                  activations[layer.name].add(layer.value);
        },
        listener_, [] { return std::string("for the report"); }, stop_);
    if (seconds > 0 && !details_["stages"].empty())
      details_["stages"].back()["images_per_s"] = static_cast<double>(scores.result().images) / seconds;
    if (const auto& classes = data.dataset->class_names(); classes.size() <= limits::named_classes)
      details_["confusion"] = confusion_json(confusion, scores, classes);
    else
      details_["notes"].push_back(concat("classes: ", classes.size(), ", shown are ", limits::named_classes));
    details_["mistakes"] = mistakes.rows(*data.dataset);
    if (network.deployed) layers(*network.deployed, best, integer, activations);
  }

  static json confusion_json(const Confusion& confusion, const Scores& scores,
                             const std::vector<std::string>& classes) {
    json names = json::array(), rows = json::array(), cells = json::array();
    for (std::size_t k = 0; k < classes.size(); ++k) {
      names.push_back(shortened(classes[k], limits::name_bytes));
      const Evaluation of = scores.of_class(static_cast<std::int32_t>(k));
      rows.push_back({of.images, of.top1});
    }
    const bool whole = classes.size() <= limits::classes;
    for (const Confusion::Cell& c : whole ? confusion.cells() : confusion.most_confused(limits::cells))
      cells.push_back({c.label, c.predicted, c.images});
    return {{"classes", names}, {"of_class", rows}, {"whole", whole}, {"cells", cells}};
  }

  void layers(const IntegerNetwork& network, const std::string& best, const std::string& integer,
              const std::map<std::string, Codes>& activations) {
    const NamedTensors masters = network_in(read_usable_tensors(best));
    std::map<std::string, WeightSimilarity> similarity;
    if (!options_.weights.empty())
      attempt("cosines to the weights before", [&] {
        for (const WeightSimilarity& row : weight_similarity(integer, options_.weights))
          similarity[row.layer] = row;
      });
    std::map<std::string, double> ratios;
    attempt("the choice of scales", [&] {
      const Network trained = open_network({.weights = best});
      if (!trained.trained) return;
      for (const WeightScaleChoice& row : weight_scale_choices(*trained.trained))
        ratios[row.layer] = row.error_ratio;
    });
    json rows = json::array();
    const std::vector<LayerReport> report = layer_report(network);
    for (std::size_t i = 0; i < report.size(); ++i) {
      json row = to_json(report[i]);
      const std::string& name = report[i].name;
      const bool with_histograms = i < limits::layers;
      if (const QuantizedWeights* weights = weights_of(*network.nodes()[i].op))
        add_weights(row, *weights, masters.find(name + ".weight"), with_histograms);
      if (const auto seen = activations.find(name); seen != activations.end() && !seen->second.empty()) {
        row["activations_clipped"] = seen->second.clipped();
        if (with_histograms) row["activations"] = seen->second.bars();
      }
      if (const auto found = similarity.find(name); found != similarity.end()) {
        row["cosine"] = found->second.cosine;
        row["by_channel"] = found->second.by_channel;
      }
      // No number stands for "no error at all".
      if (const auto found = ratios.find(name); found != ratios.end() && std::isfinite(found->second))
        row["error_ratio"] = found->second;
      rows.push_back(std::move(row));
    }
    details_["layers"] = rows;
  }

  const TrainOptions& options_;
  const TrainResult& result_;
  RunListener& listener_;
  const StopToken& stop_;
  json details_{{"format", 1},
                {"stages", json::array()},
                {"layers", json::array()},
                {"mistakes", json::array()},
                {"notes", json::array()}};
};

}  // namespace

json report_details(const TrainOptions& options, const TrainResult& result, RunListener& listener,
                    const StopToken& stop) {
  return Details(options, result, listener, stop).gather();
}

}  // namespace faq
