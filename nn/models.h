// The model zoo: rows of tables.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "nn/units.h"

namespace faq {

/// One row of the zoo.
struct ModelInfo {
  std::string name;
  std::string family;   ///< "cifar-resnet"
  int input_size = 0;   ///< height and width it was designed for
  int num_classes = 0;  ///< default
  std::string source;   ///< paper and section
  // Where checkpoints have what depends on the data:
  std::string stem = "conv1";                     ///< the first convolution
  std::vector<std::string> classifiers = {"fc"};  ///< layers with a row per class, the network's own first
  /// What a file may lack: parts that take part in training only.
  std::string optional_part = {};
  int resize =
      0;  ///< evaluation: the shorter side before the crop (torchvision's); 0: images are as they are
  /// Of the pixels in [0, 1] of colour images.
  std::vector<float> mean = {0.485f, 0.456f, 0.406f};
  std::vector<float> std = {0.229f, 0.224f, 0.225f};
};

struct ModelOptions {
  int num_classes = 0;  ///< 0: the model's own (ModelInfo), 10 or ImageNet's 1000
  int in_channels = 3;
  std::vector<float> mean = {};  ///< per channel; empty: the model's own (see ModelInfo)
  std::vector<float> std = {};
};

/// What a training step's loss is made from: cross-entropy of the logits, and of the auxiliary ones (if any)
/// times their weight.
struct TrainingLogits {
  Var logits;
  Var auxiliary = {};
  float auxiliary_weight = 0;
};

Var training_loss(const TrainingLogits& outputs, std::span<const std::int32_t> labels,
                  float label_smoothing = 0.0f);

/// A network from images to logits.
class Model : public Module {
 public:
  /// images: u8 N,H,W,C; returns N,K logits.
  virtual Var forward(const Pass& pass, const Var& images) = 0;
  /// The same with what training adds.
  virtual TrainingLogits forward_training(const Pass& pass, const Var& images) {
    return {forward(pass, images)};
  }

  /// The row it was made from; an empty one for a model that is not of the zoo.
  const ModelInfo& info() const;

 private:
  friend std::unique_ptr<Model> make_model(const std::string& name, const ModelOptions& options);
  const ModelInfo* info_ = nullptr;
};

const std::vector<ModelInfo>& list_models();
/// Throws usage, naming the nearest model, when there is none of that name.
const ModelInfo& model_info(std::string_view name);
/// The network with zero weights: follow with initialize() or load_weights().
std::unique_ptr<Model> make_model(const std::string& name, const ModelOptions& options);

/// Random weights, He et al. 2015: convolutions N(0, 2/fan_out); classifiers U(±1/√fan_in) (torchvision's and
/// PyTorch's defaults). Drawn from (seed, position of the parameter): the same whatever else the model holds.
void initialize(Model& model, std::uint64_t seed);

/// What a whole network costs: multiplications of its convolutions and classifier, for one image of the size
/// it was designed for.
struct ModelCost {
  std::int64_t parameters = 0;
  std::int64_t macs = 0;
};
/// Makes the network and runs an image through it.
ModelCost model_cost(const std::string& name, const ModelOptions& options);

}  // namespace faq
