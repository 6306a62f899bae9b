// The model zoo: a table of models.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/interpolation.h"
#include "nn/units.h"

namespace faq {

/// One row of the zoo.
struct ModelInfo {
  std::string name = {};
  std::string family = {};  ///< "cifar-resnet"
  int input_size = 0;       ///< height and width the network was designed for
  int num_classes = 0;      ///< default
  std::string source = {};  ///< paper and section
  // Names in checkpoints of the layers that depend on the data:
  std::string stem = "conv1";                     ///< the first convolution
  std::vector<std::string> classifiers = {"fc"};  ///< layers with one row per class; the main one first
  /// Prefix of the tensors that a file may lack: parts that run in training only.
  std::string optional_part = {};
  int resize =
      /// In evaluation, the shorter side before the crop (torchvision's); 0: images are not resized.
      0;
  Interpolation interpolation = Interpolation::bilinear;  ///< default
  /// Mean and standard deviation of the pixels in [0, 1], for colour images.
  std::vector<float> mean = {0.485f, 0.456f, 0.406f};
  std::vector<float> std = {0.229f, 0.224f, 0.225f};
};

struct ModelOptions {
  int num_classes = 0;  ///< 0: the model's default (ModelInfo), 10 or ImageNet's 1000
  int in_channels = 3;
  std::vector<float> mean = {};  ///< per channel; empty: the model's default, see make_model()
  std::vector<float> std = {};
};

/// The logits that the loss of a training step is made from. The loss is the cross-entropy of `logits`, plus
/// `auxiliary_weight` times that of `auxiliary` (if any).
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
  /// The same, with the auxiliary logits that training needs (if the model has any).
  virtual TrainingLogits forward_training(const Pass& pass, const Var& images) {
    return {forward(pass, images)};
  }

  /// The row of the zoo that the model was made from; an empty row for a model that make_model() has not
  /// made.
  const ModelInfo& info() const;

 private:
  friend std::unique_ptr<Model> make_model(const std::string& name, const ModelOptions& options);
  const ModelInfo* info_ = nullptr;
};

/// Adds a network of your own to the zoo of this process. Then it can be named wherever a network is: options
/// and presets, the weights of runs, teachers, evaluations. Call it before other threads use the zoo, the
/// same way in every program that is to open what a run has left. Throws usage for a name that the zoo has,
/// for none, and for a size or a number of classes that is not positive. `make`: as make_model(), with
/// options that are complete.
void register_model(ModelInfo info, std::function<std::unique_ptr<Model>(const ModelOptions&)> make);

/// Removes it again. No network that was made of it may be left. Does nothing for a name of the library's
/// own.
void unregister_model(const std::string& name);

/// The rows of the zoo, in the order of the programs' lists.
std::vector<ModelInfo> list_models();
/// Returns the row of that name. Throws usage, with the nearest name, when there is none.
const ModelInfo& model_info(std::string_view name);
/// Makes a network with zero weights: call initialize() or load_weights() next. Mean and standard deviation
/// default to those of the ModelInfo; for grey images, to their average over the colours. Throws usage for an
/// unknown name, fewer than 2 classes, and channels that are not 1 or 3 or do not fit the means and standard
/// deviations.
std::unique_ptr<Model> make_model(const std::string& name, const ModelOptions& options);

/// Draws random weights (the defaults of torchvision and PyTorch): convolutions N(0, 2/fan_out) (He et al.
/// 2015), classifiers U(±1/√fan_in). The draws of a unit depend only on the seed and the unit's position in
/// the model.
void initialize(Model& model, std::uint64_t seed);

/// The cost of a whole network. `macs`: multiplications of its convolutions and classifier, for one image.
struct ModelCost {
  std::int64_t parameters = 0;
  std::int64_t macs = 0;
};
/// Makes the network and runs one image through it. `side`: its height and width; 0: what the network was
/// designed for.
ModelCost model_cost(const std::string& name, const ModelOptions& options, int side = 0);

}  // namespace faq
