#include "nn/models.h"

#include <algorithm>
#include <cmath>
#include <list>
#include <numeric>

#include "core/parallel.h"
#include "core/rng.h"
#include "core/text.h"
#include "nn/densenet.h"
#include "nn/efficientnet.h"
#include "nn/inception.h"
#include "nn/mobilenet.h"
#include "nn/resnet.h"
#include "nn/resnet_cifar.h"
#include "nn/vgg.h"

namespace faq {
namespace {

// A row of the zoo, and the function that makes the model. A new family adds its rows here.
struct Entry {
  ModelInfo info;
  std::function<std::unique_ptr<Model>(const ModelOptions&)> make;
  bool is_registered = false;  ///< by register_model()
};

// Rows stay where they are: models point to them.
std::list<Entry>& entries() {
  static std::list<Entry> all = [] {
    std::list<Entry> rows;
    for (const CifarResNetRow& row : cifar_resnets()) {
      rows.push_back({{.name = row.name,
                       .family = "cifar-resnet",
                       .input_size = 32,
                       .num_classes = 10,
                       .source = "He et al. 2016, section 4.2"},
                      [&row](const ModelOptions& options) { return make_cifar_resnet(row, options); }});
    }
    for (const ResNetRow& row : resnets()) {
      rows.push_back({{.name = row.name,
                       .family = "resnet",
                       .input_size = 224,
                       .num_classes = 1000,
                       .source = row.source,
                       .resize = 256},
                      [&row](const ModelOptions& options) { return make_resnet(row, options); }});
    }
    for (const VggRow& row : vggs()) {
      rows.push_back({{.name = row.name,
                       .family = row.batch_norm ? "vgg" : "alexnet",
                       .input_size = 224,
                       .num_classes = 1000,
                       .source = row.source,
                       .stem = "features.0",
                       .classifiers = {"classifier.6"},
                       .resize = 256},
                      [&row](const ModelOptions& options) { return make_vgg(row, options); }});
    }
    for (const DenseNetRow& row : densenets()) {
      rows.push_back({{.name = row.name,
                       .family = "densenet",
                       .input_size = 224,
                       .num_classes = 1000,
                       .source = "Huang et al. 2017, table 1",
                       .stem = "features.conv0",
                       .classifiers = {"classifier"},
                       .resize = 256},
                      [&row](const ModelOptions& options) { return make_densenet(row, options); }});
    }
    // torchvision's transform_input turns ImageNet's normalisation into that of TensorFlow: pixels from −1 to
    // 1.
    rows.push_back({{.name = "inception_v3",
                     .family = "inception",
                     .input_size = 299,
                     .num_classes = 1000,
                     .source = "Szegedy et al. 2016, table 1",
                     .stem = "Conv2d_1a_3x3.conv",
                     .classifiers = {"fc", "AuxLogits.fc"},
                     .optional_part = "AuxLogits.",
                     .resize = 342,
                     .mean = {0.5f, 0.5f, 0.5f},
                     .std = {0.5f, 0.5f, 0.5f}},
                    make_inception_v3});
    rows.push_back({{.name = "mobilenet_v2",
                     .family = "mobilenet",
                     .input_size = 224,
                     .num_classes = 1000,
                     .source = "Sandler et al. 2018, table 2",
                     .stem = "features.0.0",
                     .classifiers = {"classifier.1"},
                     .resize = 256},
                    make_mobilenet_v2});
    // The authors crop all but a border of 16 pixels, and their mean and deviation are 127 and 128 of 255.
    for (const EfficientNetRow& row : efficientnets()) {
      rows.push_back({{.name = row.name,
                       .family = "efficientnet",
                       .input_size = row.input_size,
                       .num_classes = 1000,
                       .source = "Tan and Le 2019, table 1; tensorflow/tpu, efficientnet/lite",
                       .stem = "conv_stem",
                       .classifiers = {"classifier"},
                       .resize = row.input_size + 32,
                       .interpolation = Interpolation::bicubic,
                       .mean = std::vector(3, 127.0f / 255),
                       .std = std::vector(3, 128.0f / 255)},
                      [&row](const ModelOptions& options) { return make_efficientnet(row, options); }});
    }
    return rows;
  }();
  return all;
}

const Entry& find(const std::string& name) {
  const auto found = std::ranges::find(entries(), name, [](const Entry& e) { return e.info.name; });
  if (found == entries().end()) {
    std::vector<std::string> names;
    for (const Entry& entry : entries()) names.push_back(entry.info.name);
    fail(ErrorKind::usage, "unknown model '", name, "'; did you mean '", nearest(name, names),
         "'? (have: ", join(names), ")");
  }
  return *found;
}

// The values of colour images; for grey images, their average.
std::vector<float> of_channels(const std::vector<float>& of_colours, int channels) {
  if (channels == 3) return of_colours;
  return {std::accumulate(of_colours.begin(), of_colours.end(), 0.0f) / 3.0f};
}

}  // namespace

void register_model(ModelInfo info, std::function<std::unique_ptr<Model>(const ModelOptions&)> make) {
  check(!info.name.empty() && info.input_size > 0 && info.num_classes >= 2 && !info.classifiers.empty() &&
            make != nullptr,
        ErrorKind::usage,
        "register_model: expected a name, an input size, 2 classes or more, a classifier and what makes the "
        "network");
  check(
      std::ranges::find(entries(), info.name, [](const Entry& e) { return e.info.name; }) == entries().end(),
      ErrorKind::usage, "register_model: the zoo has a '", info.name, "'");
  entries().push_back({std::move(info), std::move(make), true});
}

void unregister_model(const std::string& name) {
  entries().remove_if([&](const Entry& entry) { return entry.is_registered && entry.info.name == name; });
}

std::vector<ModelInfo> list_models() {
  std::vector<ModelInfo> rows;
  for (const Entry& entry : entries()) rows.push_back(entry.info);
  return rows;
}

const ModelInfo& Model::info() const {
  static const ModelInfo none{};
  return info_ ? *info_ : none;
}

const ModelInfo& model_info(std::string_view name) { return find(std::string(name)).info; }

std::unique_ptr<Model> make_model(const std::string& name, const ModelOptions& options) {
  const Entry& entry = find(name);
  ModelOptions resolved = options;
  if (resolved.num_classes == 0) resolved.num_classes = entry.info.num_classes;
  check(resolved.num_classes >= 2, ErrorKind::usage, "model: `num_classes` ", options.num_classes,
        ", expected at least 2");
  check(options.in_channels == 1 || options.in_channels == 3, ErrorKind::usage,
        "model: ", options.in_channels, " input channels, expected 1 or 3");
  if (resolved.mean.empty()) resolved.mean = of_channels(entry.info.mean, options.in_channels);
  if (resolved.std.empty()) resolved.std = of_channels(entry.info.std, options.in_channels);
  check(static_cast<int>(resolved.mean.size()) == options.in_channels &&
            resolved.std.size() == resolved.mean.size(),
        ErrorKind::usage, "model: ", options.in_channels, " input channels, ", resolved.mean.size(),
        " means, ", resolved.std.size(), " standard deviations");
  auto model = entry.make(resolved);
  model->info_ = &entry.info;
  return model;
}

Var training_loss(const TrainingLogits& outputs, std::span<const std::int32_t> labels,
                  float label_smoothing) {
  const Var loss = cross_entropy(outputs.logits, labels, label_smoothing);
  if (!outputs.auxiliary) return loss;
  return add(loss,
             scale(cross_entropy(outputs.auxiliary, labels, label_smoothing), outputs.auxiliary_weight));
}

void initialize(Model& model, std::uint64_t seed) {
  std::vector<Unit*> units;
  for_each_unit(model, [&](const std::string&, Unit& unit) { units.push_back(&unit); });
  parallel_for(static_cast<std::int64_t>(units.size()), 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      Random random(seed, RandomStream::initialization, static_cast<std::uint64_t>(i));
      units[i]->initialize(random);
    }
  });
}

ModelCost model_cost(const std::string& name, const ModelOptions& options, int side) {
  const auto model = make_model(name, options);
  ModelCost cost;
  for (const auto& parameter : parameters(*model)) cost.parameters += parameter.value.value().numel();
  const int size = side > 0 ? side : model_info(name).input_size;
  // The tape of one forward pass shows the output size of every convolution.
  const EnableGrad recorded;
  const Var logits = model->forward({}, Var(Tensor::zeros({1, size, size, options.in_channels}, DType::u8)));
  for (const Var& var : topological_order(logits)) {
    const std::string op = var.op();
    if (op != "conv2d" && op != "linear") continue;
    const Shape& weights = var.inputs()[1].shape();
    cost.macs += var.value().numel() * (weights.numel() / weights[0]);
  }
  return cost;
}

}  // namespace faq
