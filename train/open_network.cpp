#include "train/open_network.h"

#include "core/json.h"
#include "core/safetensors.h"
#include "nn/load_weights.h"
#include "quant/compile.h"
#include "train/option_table.h"
#include "train/quantized_training.h"
#include "train/run_record.h"
#include "train/setup.h"

namespace faq {
namespace {

std::vector<std::string> class_names(const std::map<std::string, std::string>& metadata) {
  std::vector<std::string> names;
  const auto found = metadata.find("classes");
  if (found == metadata.end()) return names;
  const auto json = parse_json(found->second, "class names");
  if (!json.is_array()) return names;
  for (const auto& name : json) names.push_back(name.is_string() ? name.get<std::string>() : name.dump());
  return names;
}

std::vector<Network::Layer> integer_layers(const IntegerNetwork& network, const Tensor& images,
                                           Engine engine) {
  const std::vector<Tensor> values = network.forward_all(images, engine);
  std::vector<Network::Layer> layers;
  for (std::size_t i = 0; i < values.size(); ++i) layers.push_back({network.nodes()[i].op->name, values[i]});
  return layers;
}

class Recorder final : public UnitObserver {
 public:
  Recorder(Model& model, std::vector<Network::Layer>& layers) : names_(unit_names(model)), layers_(layers) {}
  void saw(Unit& unit, Inputs, const Var& output) override {
    const auto name = names_.find(&unit);
    if (name != names_.end()) layers_.push_back({name->second, output.value()});
  }

 private:
  std::map<const Unit*, std::string> names_;
  std::vector<Network::Layer>& layers_;
};

std::vector<Network::Layer> float_layers(Model& model, const Tensor& images) {
  std::vector<Network::Layer> layers;
  Recorder recorder(model, layers);
  const NoGrad no_grad;
  model.forward({.observer = &recorder}, Var(images));
  return layers;
}

// What a file knows for itself cannot be told otherwise.
void take(const char* option, int& given, int of_file, const std::string& file) {
  check(given == 0 || given == of_file, ErrorKind::usage, "--", option, " ", given, ": ", file, " has ",
        of_file);
  given = of_file;
}

Network of_integer_network(TrainOptions& options) {
  const Engine engine = options.engine;
  const auto network = std::make_shared<IntegerNetwork>(IntegerNetwork::load(options.weights));
  check(options.mean.empty() && options.std.empty(), ErrorKind::usage, "--mean, --std: ", options.weights,
        " has its own, in the table of its input");
  take("in-channels", options.in_channels, static_cast<int>(network->channels()), options.weights);
  take("num-classes", options.num_classes, static_cast<int>(network->num_classes()), options.weights);
  const Preprocessing& seen = network->preprocessing();
  check(seen.height == seen.width || options.val_crop_size > 0, ErrorKind::usage, options.weights,
        " is for images of ", seen.height, "×", seen.width,
        ": images are cropped to squares here, give --val-crop-size");
  if (options.val_crop_size == 0) options.val_crop_size = seen.height;
  if (options.val_resize_size < 0) options.val_resize_size = seen.resize;
  const auto model = network->about().find("model");
  return {"integer network",
          model == network->about().end() ? "" : model->second,
          seen.class_names,
          [network, engine](const Tensor& images) { return network->forward(images, engine); },
          [network, engine](const Tensor& images) { return integer_layers(*network, images, engine); },
          nullptr};
}

Network of_model(const std::string& kind, const std::string& name, std::vector<std::string> names,
                 std::shared_ptr<Model> model, bool quantized, Engine engine) {
  return {kind,
          name,
          std::move(names),
          [model](const Tensor& images) {
            const NoGrad no_grad;
            return model->forward({}, Var(images)).value();
          },
          [model, quantized, engine](const Tensor& images) {
            if (!quantized) return float_layers(*model, images);
            const auto network = compile(*model, images.dim(1), images.dim(2), images.dim(3));
            return integer_layers(network, images, engine);
          },
          model,
          quantized};
}

}  // namespace

void check_pixels(const TrainOptions& options, const TrainOptions& trained) {
  check(same_pixels(options, trained), ErrorKind::usage, "--mean, --std: ", options.weights,
        " was trained with its own, ",
        trained.mean.empty() ? concat("those of ", trained.model) : to_json(trained)["mean"].dump());
}

bool knows_pixels(const std::string& file) {
  const auto metadata = read_safetensors_metadata(file);
  return is_integer_network(metadata) || is_checkpoint(metadata);
}

Network open_network(TrainOptions& options, const OpenNetworkOptions& how) {
  check(!options.weights.empty(), ErrorKind::usage, "--weights is required");
  const auto metadata = read_safetensors_metadata(options.weights);
  check(!how.average || is_checkpoint(metadata), ErrorKind::usage, "--use-ema: ", options.weights,
        " is no checkpoint of faq-train, which alone keeps an average");
  if (is_integer_network(metadata)) return of_integer_network(options);

  NamedTensors file = read_safetensors(options.weights);
  if (is_checkpoint(metadata)) {
    if (how.average) file = average_in(file, options.weights);
    TrainOptions trained;
    std::shared_ptr<Model> model = model_from_checkpoint(file, options.weights, trained, options.engine);
    options.model = trained.model;
    check_pixels(options, trained);
    take("in-channels", options.in_channels, trained.in_channels, options.weights);
    take("num-classes", options.num_classes, trained.num_classes, options.weights);
    if (options.val_crop_size == 0) options.val_crop_size = trained.val_crop_size;
    if (options.val_resize_size < 0) options.val_resize_size = trained.val_resize_size;
    const NumberFormat quant = format_of_checkpoint(trained, metadata, options.weights);
    const bool quantized = quant.scheme != Scheme::none;
    const bool integers = quantized && quant.quantize_activations;
    const char* kind = integers    ? "quantized checkpoint"
                       : quantized ? "checkpoint with quantized weights"
                                   : "float checkpoint";
    Network network = of_model(how.average ? concat("average of a ", kind) : kind, trained.model,
                               class_names(metadata), std::move(model), integers, options.engine);
    network.epoch = progress_in(metadata, options.weights).epoch;
    return network;
  }
  check(how.model_given, ErrorKind::usage, "--model is required for plain weights (", options.weights, ")");
  const ModelInfo& info = model_info(options.model);
  if (options.num_classes == 0) options.num_classes = classes_in(file, info);
  if (options.in_channels == 0) options.in_channels = channels_in(file, info);
  check(options.num_classes > 0 && options.in_channels > 0, ErrorKind::bad_data, "weights ", options.weights,
        ": neither a first convolution nor a classifier of ", options.model);
  std::shared_ptr<Model> model = build_model(options);
  load_weights(*model, file, {.source = options.weights});
  return of_model("float weights", options.model, {}, std::move(model), false, Engine::integer);
}

}  // namespace faq
