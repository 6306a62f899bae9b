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

/// Which network to open. What is left open comes from the file. A value that differs from the file's is
/// refused.
struct NetworkChoice {
  std::string weights;                      ///< an integer network, a checkpoint of a run, or plain weights
  std::string model = {};                   ///< plain weights do not name theirs
  int num_classes = 0;                      ///< 0: the file's
  int in_channels = 0;                      ///< 0: the file's
  std::vector<double> mean = {}, std = {};  ///< empty: the file's; of plain weights: the model's
  bool average = false;                     ///< the moving average that a checkpoint keeps
  std::vector<std::string> ignore_extra =
      {};                           ///< patterns of tensors that plain weights may have beyond the network's
  Engine engine = Engine::integer;  ///< computes a quantized network, whatever it was trained on
};

struct Network {
  std::string kind;     ///< "integer network", "quantized checkpoint", …
  std::string model;    ///< as the file names it; empty: it does not
  std::string weights;  ///< the file
  int num_classes = 0;
  /// What the file says of its images. Plain weights say the channels alone: height and width are 0, resize
  /// is -1.
  Preprocessing preprocessing;
  /// u8 images N,H,W,C to logits N,K. Throws bad_data, with the name of the first layer, for outputs that are
  /// not finite.
  std::function<Tensor(const Tensor& images)> forward;
  /// The output of every layer, in order: integers with their scale, or f32. Throws as `forward` does.
  struct Layer {
    std::string name;
    Tensor value;
  };
  std::function<std::vector<Layer>(const Tensor& images)> layers;
  std::shared_ptr<const IntegerNetwork> deployed;  ///< of an integer network: what `forward` runs, else null
  std::shared_ptr<Model> trained;                  ///< of all others: what `forward` runs, else null
  bool quantized = false;                          ///< `trained` computes in integers and can be compiled
  std::int64_t epoch = 0;                          ///< of a checkpoint: how many were finished
  std::string id = {};                             ///< of a checkpoint: checkpoint_id()
  std::vector<std::string> notes = {};             ///< for the user: how the weights were read
};

/// Throws usage for plain weights without a model, for what differs from the file, and for an average that
/// the file does not have; bad_data and missing_input for files that cannot be used.
Network open_network(const NetworkChoice& choice);

/// Whether a file names its model and says which mean and deviation it was trained with: plain weights do
/// not.
bool describes_itself(const std::string& file);
/// Throws usage when `given` has another mean or deviation than the run its weights are from.
void check_pixels(const TrainOptions& given, const TrainOptions& of_run);

/// How images are prepared for a network: as `data` says, else as the file says, else as choose_preprocessing
/// chooses (train/setup.h), which may ask for `image_size`. Reads the sizes of `data` alone: mean and
/// standard deviation are open_network's. Throws usage for a network of images that are not square when
/// `data` names no size.
Preprocessing preprocessing_for(const Network& network, const DataChoice& data,
                                const std::function<int()>& image_size);

/// Writes the integer network of a quantized checkpoint, for images prepared like that. Throws usage when
/// the network is not a quantized checkpoint, or the file is that checkpoint.
IntegerNetwork export_integer_network(const Network& network, const Preprocessing& preprocessing,
                                      const std::string& file);

}  // namespace faq
