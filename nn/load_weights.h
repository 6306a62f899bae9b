// Weights from named tensors into a model, and back.
#pragma once

#include <string>
#include <vector>

#include "core/safetensors.h"
#include "nn/models.h"

namespace faq {

struct LoadWeightsOptions {
  std::string source = "weights";  ///< file name for messages
  bool allow_non_finite = false;   ///< accept NaN and infinities
  bool reinitialize_classifier =
      false;  ///< a classifier of another size is left as it is in the model and reported
};

/// Copies tensors with torchvision's names into the model's parameters and running statistics. `module.`
/// prefixes are stripped, `num_batches_tracked` is ignored, other spellings of a family's names (older
/// checkpoints, timm's) are understood, the weights of a fully connected layer may be stored as a filter's,
/// bf16 is widened. An auxiliary head may be missing as a whole and stays as it is in the model. Throws
/// bad_data listing every missing, extra, misshapen and non-finite tensor at once. Returns what should be
/// told to the user.
std::vector<std::string> load_weights(Model& model, const NamedTensors& file,
                                      const LoadWeightsOptions& options = {});

/// The same tensors under the names of that network, as load_weights reads them.
NamedTensors with_canonical_names(const NamedTensors& file, const ModelInfo& info);

/// Parameters and buffers under their names, sharing the model's storage.
void export_weights(Model& model, NamedTensors& to);

/// The number of classes a file of weights of that network was made for (rows of its classifier); 0 when it
/// has none.
int classes_in(const NamedTensors& file, const ModelInfo& info);
/// The number of input channels of its first convolution; 0 when unknown.
int channels_in(const NamedTensors& file, const ModelInfo& info);

}  // namespace faq
