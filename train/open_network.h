// A network ready to be evaluated, however it was stored.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "nn/models.h"
#include "quant/deploy/integer_network.h"
#include "train/options.h"

namespace faq {

struct Network {
  std::string kind;                      ///< "integer network", "quantized checkpoint", …
  std::string model;                     ///< as the file names it; empty: it does not
  std::vector<std::string> class_names;  ///< empty: the file does not say
  /// u8 images N,H,W,C to logits N,K.
  std::function<Tensor(const Tensor& images)> forward;
  /// What every layer hands on, by layer, in order: integers with their step, or f32.
  struct Layer {
    std::string name;
    Tensor value;
  };
  std::function<std::vector<Layer>(const Tensor& images)> layers;
  std::shared_ptr<Model> trained;  ///< in eval mode, what `forward` runs; null for an integer network
  bool quantized = false;          ///< `trained` computes in integers and can be compiled
  std::int64_t epoch = 0;          ///< of a checkpoint: after how many
};

/// Whether a file says what mean and deviation its network was trained with: plain weights do not.
bool knows_pixels(const std::string& file);
/// Throws usage when the options have another mean or deviation than the run of their weights.
void check_pixels(const TrainOptions& options, const TrainOptions& trained);

struct OpenNetworkOptions {
  bool model_given = false;  ///< options.model was chosen, it is not the default
  bool average = false;      ///< of a checkpoint: its moving average, not the network in training
};

/// Opens options.weights: an integer network, a checkpoint of faq-train, or weights of options.model. Fills
/// in what the file knows and the options leave open: channels, classes, sizes. Throws usage for weights
/// alone without a model, for channels, classes, mean and deviation that are not the file's, and for an
/// average that it does not have.
Network open_network(TrainOptions& options, const OpenNetworkOptions& how);

}  // namespace faq
