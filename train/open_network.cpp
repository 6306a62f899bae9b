#include "train/open_network.h"

#include <atomic>
#include <filesystem>
#include <map>

#include "core/kernels/elementwise.h"
#include "core/safetensors.h"
#include "core/text.h"
#include "nn/load_weights.h"
#include "nn/unit_watcher.h"
#include "quant/compile.h"
#include "train/class_match.h"
#include "train/option_table.h"
#include "train/quantized_training.h"
#include "train/run_record.h"
#include "train/setup.h"

namespace faq {
namespace {

std::vector<Network::Layer> integer_layers(const IntegerNetwork& network, const Tensor& images,
                                           Engine engine) {
  const std::vector<Tensor> values = network.forward_all(images, engine);
  std::vector<Network::Layer> layers;
  for (std::size_t i = 0; i < values.size(); ++i) layers.push_back({network.nodes()[i].op->name, values[i]});
  return layers;
}

std::vector<Network::Layer> float_layers(Model& model, const Tensor& images) {
  std::vector<Network::Layer> layers;
  UnitWatcher watcher(model, [&](const std::string& name, Unit&, const Tensor& output) {
    layers.push_back({name, output});
  });
  const NoGrad no_grad;
  model.forward({.observer = &watcher}, Var(images));
  return layers;
}

// --- outputs that are no numbers

bool is_finite(const Tensor& values) { return values.dtype() != DType::f32 || kernels::all_finite(values); }

[[noreturn]] void refuse_not_finite(const std::string& file, const std::string& layer) {
  fail(ErrorKind::bad_data, "weights ", file, ": the output of layer ", shortened(layer, 80),
       " is not finite (NaN or infinite): nothing can be said of images with this network");
}

/// The same functions, with a refusal of outputs that are not finite. They name the first layer that made
/// one.
void check_outputs(Network& network) {
  const std::string file = network.weights;
  network.layers = [inner = std::move(network.layers), file](const Tensor& images) {
    std::vector<Network::Layer> layers = inner(images);
    for (const Network::Layer& layer : layers)
      if (!is_finite(layer.value)) refuse_not_finite(file, layer.name);
    return layers;
  };
  network.forward = [inner = std::move(network.forward), layers = network.layers,
                     file](const Tensor& images) {
    Tensor logits = inner(images);
    if (!is_finite(logits)) {
      layers(images);
      refuse_not_finite(file, "of the logits");
    }
    return logits;
  };
}

/// A float network whose later layers hide what is not finite (an activation makes 0 of NaN): watched on the
/// first images.
std::function<Tensor(const Tensor&)> watched_once(const std::shared_ptr<Model>& model,
                                                  const std::string& file) {
  return [model, file, seen = std::make_shared<std::atomic<bool>>(false)](const Tensor& images) {
    const NoGrad no_grad;
    if (seen->exchange(true)) return model->forward({}, Var(images)).value();
    UnitWatcher watcher(*model, [&](const std::string& name, Unit&, const Tensor& output) {
      if (!is_finite(output)) refuse_not_finite(file, name);
    });
    return model->forward({.observer = &watcher}, Var(images)).value();
  };
}

/// The integers of a quantized network are finite whatever they were made from; so its factors are looked at.
void check_factors(Model& model, Preprocessing images, const std::string& file) {
  if (images.height == 0) return;  // not known before there are images
  images.class_names.clear();
  const std::string name = compile(model, images).first_not_finite();
  check(name.empty(), ErrorKind::bad_data, "weights ", file, ": ", name,
        " is not finite: nothing can be said of images with this network");
}

// What a file says of itself cannot be chosen otherwise.
void check_same(const NetworkChoice& choice, const Network& network) {
  check(choice.model.empty() || network.model.empty() || choice.model == network.model, ErrorKind::usage,
        "`model` ", choice.model, ": ", choice.weights, " is a ", network.model);
  const auto check_number = [&](const char* field, int chosen, int of_file) {
    check(chosen == 0 || chosen == of_file, ErrorKind::usage, "`", field, "` ", chosen, ": ", choice.weights,
          " has ", of_file);
  };
  check_number("num_classes", choice.num_classes, network.num_classes);
  check_number("in_channels", choice.in_channels, network.preprocessing.channels);
}

Network of_integer_network(const NetworkChoice& choice) {
  check(choice.mean.empty() && choice.std.empty(), ErrorKind::usage, "`mean`, `std`: ", choice.weights,
        " has its own, in the table of its input");
  const auto network = std::make_shared<IntegerNetwork>(IntegerNetwork::load(choice.weights));
  const auto model = network->about().find("model");
  return {.kind = "integer network",
          .model = model == network->about().end() ? "" : model->second,
          .weights = choice.weights,
          .num_classes = static_cast<int>(network->num_classes()),
          .preprocessing = network->preprocessing(),
          .forward = [network, engine = choice.engine](
                         const Tensor& images) { return network->forward(images, engine); },
          .layers = [network, engine = choice.engine](
                        const Tensor& images) { return integer_layers(*network, images, engine); },
          .deployed = network,
          .trained = nullptr};
}

// What runs a model that was trained.
void set_model(Network& network, std::shared_ptr<Model> model, Engine engine) {
  const bool quantized = network.quantized;
  network.forward = watched_once(model, network.weights);
  if (quantized) check_factors(*model, network.preprocessing, network.weights);
  network.layers = [model, quantized, engine](const Tensor& images) {
    if (!quantized) return float_layers(*model, images);
    return integer_layers(compile(*model, images.dim(1), images.dim(2), images.dim(3)), images, engine);
  };
  network.trained = std::move(model);
}

Network of_checkpoint(const NetworkChoice& choice, const NamedTensors& contents) {
  const std::string& source = choice.weights;
  check_has_checksums(contents, "checkpoint " + source);
  TrainOptions trained;
  std::shared_ptr<Model> model = model_from_checkpoint(
      choice.average ? average_in(contents, source) : contents, source, trained, choice.engine);
  TrainOptions given;
  given.weights = source;
  given.mean = choice.mean;
  given.std = choice.std;
  check_pixels(given, trained);
  const NumberFormat format = format_of_checkpoint(trained, contents.metadata, source);
  const bool integers = format.scheme != Scheme::none && format.quantize_activations;
  const char* kind = integers                        ? "quantized checkpoint"
                     : format.scheme != Scheme::none ? "checkpoint with quantized weights"
                                                     : "float checkpoint";
  Network network{.kind = choice.average ? concat("average of a ", kind) : kind,
                  .model = trained.model,
                  .weights = source,
                  .num_classes = trained.num_classes,
                  .preprocessing = preprocessing_of(trained, class_names_in(contents.metadata)),
                  .forward = {},
                  .layers = {},
                  .deployed = {},
                  .trained = {},
                  .quantized = integers,
                  .epoch = progress_in(contents.metadata, source).epoch,
                  .id = checkpoint_id(contents.metadata)};
  set_model(network, std::move(model), choice.engine);
  return network;
}

Network of_plain_weights(const NetworkChoice& choice, const NamedTensors& contents) {
  check(!choice.model.empty(), ErrorKind::usage, "`model` is required for plain weights (", choice.weights,
        ")");
  const ModelInfo& info = model_info(choice.model);
  TrainOptions options;
  options.model = choice.model;
  options.num_classes =
      choice.num_classes > 0 ? choice.num_classes : classes_in(contents, info, choice.ignore_extra);
  options.in_channels =
      choice.in_channels > 0 ? choice.in_channels : channels_in(contents, info, choice.ignore_extra);
  options.mean = choice.mean;
  options.std = choice.std;
  check(options.num_classes > 0 || options.in_channels > 0, ErrorKind::bad_data, "weights ", choice.weights,
        ": neither a first convolution nor a classifier of ", choice.model, other_network(contents, info));
  check(options.num_classes > 0, ErrorKind::bad_data, "weights ", choice.weights, ": no classifier (",
        info.classifiers.front(),
        ".weight): a body alone cannot be evaluated, faq-train begins a classifier anew",
        other_network(contents, info));
  check(options.in_channels > 0, ErrorKind::bad_data, "weights ", choice.weights, ": no first convolution (",
        info.stem, ".weight) of ", choice.model, other_network(contents, info));
  std::shared_ptr<Model> model = build_model(options);
  std::vector<std::string> notes =
      load_weights(*model, contents, {.source = choice.weights, .ignore_extra = choice.ignore_extra});
  Network network{.kind = "float weights",
                  .model = choice.model,
                  .weights = choice.weights,
                  .num_classes = options.num_classes,
                  .preprocessing = {.channels = options.in_channels, .resize = -1},
                  .forward = {},
                  .layers = {},
                  .deployed = {},
                  .trained = {},
                  .notes = std::move(notes)};
  set_model(network, std::move(model), choice.engine);
  return network;
}

}  // namespace

bool describes_itself(const std::string& file) {
  const auto metadata = read_safetensors_metadata(file);
  return is_integer_network(metadata) || is_checkpoint(metadata);
}

void check_pixels(const TrainOptions& given, const TrainOptions& of_run) {
  check(same_pixels(given, of_run), ErrorKind::usage, "`mean`, `std`: ", given.weights,
        " was trained with its own, ",
        of_run.mean.empty() ? concat("those of ", of_run.model) : to_json(of_run)["mean"].dump());
}

Network open_network(const NetworkChoice& choice) {
  check(!choice.weights.empty(), ErrorKind::usage, "`weights` is required");
  const auto metadata = read_safetensors_metadata(choice.weights);
  check(!choice.average || is_checkpoint(metadata), ErrorKind::usage, "`average`: ", choice.weights,
        " is no checkpoint of faq-train, which alone keeps an average");
  const auto opened = [&] {
    if (is_integer_network(metadata)) return of_integer_network(choice);
    const NamedTensors contents = read_usable_tensors(choice.weights);
    return is_checkpoint(metadata) ? of_checkpoint(choice, contents) : of_plain_weights(choice, contents);
  };
  Network network = opened();
  check_same(choice, network);
  check_outputs(network);
  return network;
}

Preprocessing preprocessing_for(const Network& network, const DataChoice& data,
                                const std::function<int()>& image_size) {
  const Preprocessing& seen = network.preprocessing;
  check(seen.height == seen.width || data.val_crop_size > 0, ErrorKind::usage, network.weights,
        " is for images of ", seen.height, "×", seen.width,
        ": images are cropped to squares here, give `val_crop_size`");
  TrainOptions options;
  static_cast<DataChoice&>(options) = data;
  if (!network.model.empty()) options.model = network.model;
  options.in_channels = seen.channels;
  if (options.val_crop_size == 0) options.val_crop_size = seen.height;
  // Of plain weights nothing is known; the model says.
  if (!options.interpolation && seen.resize >= 0) options.interpolation = seen.interpolation;
  if (!options.interpolation) options.interpolation = model_info(options.model).interpolation;
  if (options.val_resize_size < 0) {
    // In proportion for another crop, as the defaults of networks are.
    const bool is_other = seen.resize > 0 && seen.height > 0 && options.val_crop_size != seen.height;
    options.val_resize_size =
        is_other ? static_cast<int>(options.val_crop_size * seen.resize / seen.height) : seen.resize;
  }
  if (options.val_crop_size == 0 || options.val_resize_size < 0) {
    options.train_crop_size = options.val_crop_size;  // when it is known, nothing asks for the images' size
    choose_preprocessing(options, image_size);
  }
  Preprocessing preprocessing = preprocessing_of(options, seen.class_names);
  preprocessing.mean = seen.mean;
  preprocessing.std = seen.std;
  return preprocessing;
}

namespace {

bool holds_checkpoint(const std::string& file) {
  try {
    return is_checkpoint(read_safetensors_metadata(file));
  } catch (const Error&) {  // nothing is there, or something else
    return false;
  }
}

}  // namespace

IntegerNetwork export_integer_network(const Network& network, const Preprocessing& preprocessing,
                                      const std::string& file) {
  check(network.quantized, ErrorKind::usage, "export: ", network.weights,
        ": expected a quantized checkpoint, found ", network.kind);
  std::error_code none;  // two files of which one is not there yet are not the same
  check(!std::filesystem::equivalent(file, network.weights, none), ErrorKind::usage, "export ", file,
        ": that is the checkpoint itself");
  check(!holds_checkpoint(file), ErrorKind::usage, "export ", file, ": that is a checkpoint of a run");
  IntegerNetwork compiled = compile(*network.trained, preprocessing);
  compiled.save(file, integer_network_record(network.model, network.epoch, network.id));
  return compiled;
}

}  // namespace faq
