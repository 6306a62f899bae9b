// The model zoo: rows of tables.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "nn/units.h"

namespace faq {

/// A network from images to logits.
class Model : public Module {
 public:
  /// images: u8 N,H,W,C; returns N,K logits.
  virtual Var forward(const Var& images) = 0;
};

struct ModelOptions {
  int num_classes = 10;
  int in_channels = 3;
  std::vector<float> mean;  ///< per channel; empty: the model's own (see ModelInfo)
  std::vector<float> std;
};

/// One row of the zoo.
struct ModelInfo {
  std::string name;
  std::string family;  ///< "cifar-resnet"
  int input_size;      ///< height and width it was designed for
  int num_classes;     ///< default
  std::string source;  ///< paper and section
};

const std::vector<ModelInfo>& list_models();
/// Throws usage, naming the nearest model, when there is none of that name.
const ModelInfo& model_info(const std::string& name);
/// The network with zero weights: follow with initialize() or load_weights().
std::unique_ptr<Model> make_model(const std::string& name, const ModelOptions& options);

/// Means and standard deviations of the pixels in [0, 1]: ImageNet's for three channels (torchvision's),
/// their average for one.
std::vector<float> default_mean(int channels);
std::vector<float> default_std(int channels);

/// Random weights, He et al. 2015: convolutions N(0, 2/fan_out); classifiers U(±1/√fan_in) (torchvision's and
/// PyTorch's defaults). Drawn from (seed, position of the parameter): the same whatever else the model holds.
void initialize(Model& model, std::uint64_t seed);

/// Multiplications and parameters of one unit, counted while `images` (N = 1) run through the network.
struct ModelCost {
  std::int64_t parameters = 0;
  std::int64_t macs = 0;
};
ModelCost model_cost(const std::string& name, const ModelOptions& options);

}  // namespace faq
