#include "nn/models.h"

#include <algorithm>
#include <cmath>

#include "core/rng.h"
#include "core/text.h"
#include "nn/resnet.h"
#include "nn/resnet_cifar.h"

namespace faq {
namespace {

// A row of the zoo and how to make it. A new family adds its rows here.
struct Entry {
  ModelInfo info;
  std::function<std::unique_ptr<Model>(const ModelOptions&)> make;
};

const std::vector<Entry>& entries() {
  static const std::vector<Entry> all = [] {
    std::vector<Entry> rows;
    for (const CifarResNetRow& row : cifar_resnets()) {
      rows.push_back({{row.name, "cifar-resnet", 32, 10, "He et al. 2016, section 4.2"},
                      [&row](const ModelOptions& options) { return make_cifar_resnet(row, options); }});
    }
    for (const ResNetRow& row : resnets()) {
      rows.push_back({{row.name, "resnet", 224, 1000, "He et al. 2016, table 1"},
                      [&row](const ModelOptions& options) { return make_resnet(row, options); }});
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

}  // namespace

const std::vector<ModelInfo>& list_models() {
  static const std::vector<ModelInfo> infos = [] {
    std::vector<ModelInfo> rows;
    for (const Entry& entry : entries()) rows.push_back(entry.info);
    return rows;
  }();
  return infos;
}

const ModelInfo& model_info(const std::string& name) { return find(name).info; }

std::unique_ptr<Model> make_model(const std::string& name, const ModelOptions& options) {
  const Entry& entry = find(name);
  check(options.num_classes >= 2, ErrorKind::usage, "model: --num-classes ", options.num_classes,
        ", expected at least 2");
  check(options.in_channels == 1 || options.in_channels == 3, ErrorKind::usage,
        "model: ", options.in_channels, " input channels, expected 1 or 3");
  ModelOptions resolved = options;
  if (resolved.mean.empty()) resolved.mean = default_mean(options.in_channels);
  if (resolved.std.empty()) resolved.std = default_std(options.in_channels);
  check(static_cast<int>(resolved.mean.size()) == options.in_channels &&
            resolved.std.size() == resolved.mean.size(),
        ErrorKind::usage, "model: ", options.in_channels, " input channels, ", resolved.mean.size(),
        " means, ", resolved.std.size(), " standard deviations");
  return entry.make(resolved);
}

std::vector<float> default_mean(int channels) {
  return channels == 3 ? std::vector{0.485f, 0.456f, 0.406f} : std::vector{0.449f};
}

std::vector<float> default_std(int channels) {
  return channels == 3 ? std::vector{0.229f, 0.224f, 0.225f} : std::vector{0.226f};
}

void initialize(Model& model, std::uint64_t seed) {
  std::uint64_t position = 0;
  for_each_unit(model, [&](const std::string&, Unit& unit) {
    Random random(seed, RandomStream::initialization, position++);
    if (auto* conv = dynamic_cast<ConvNormAct*>(&unit)) {
      const Shape& shape = conv->weight().shape();
      const double sigma = std::sqrt(2.0 / static_cast<double>(shape[0] * shape[2] * shape[3]));
      for (float& w : conv->weight().mutable_value().mutable_span<float>())
        w = static_cast<float>(sigma * random.normal());
    } else if (auto* linear = dynamic_cast<Linear*>(&unit)) {
      const double bound = 1.0 / std::sqrt(static_cast<double>(linear->weight().shape()[1]));
      for (Var* parameter : {&linear->weight(), &linear->bias()}) {
        for (float& w : parameter->mutable_value().mutable_span<float>())
          w = static_cast<float>(random.uniform(-bound, bound));
      }
    }
  });
}

ModelCost model_cost(const std::string& name, const ModelOptions& options) {
  const auto model = make_model(name, options);
  ModelCost cost;
  for (const auto& parameter : parameters(*model)) cost.parameters += parameter.value.value().numel();
  const int size = model_info(name).input_size;
  // The tape of one forward pass tells every convolution's output size.
  const Var logits = model->forward(Var(Tensor::zeros({1, size, size, options.in_channels}, DType::u8)));
  for (const Var& var : topological_order(logits)) {
    const std::string op = var.op();
    if (op != "conv2d" && op != "linear") continue;
    const Shape& weights = var.inputs()[1].shape();
    cost.macs += var.value().numel() * (weights.numel() / weights[0]);
  }
  return cost;
}

}  // namespace faq
