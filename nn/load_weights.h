// Copies weights from named tensors into a model, and back.
#pragma once

#include <string>
#include <vector>

#include "core/safetensors.h"
#include "nn/models.h"

namespace faq {

struct LoadWeightsOptions {
  std::string source = "weights";  ///< file name used in messages
  bool allow_non_finite = false;   ///< accept NaN and infinities
  bool reinitialize_classifier =
      /// A classifier of another size, or one that the file does not have, keeps the model's own values, and
      /// a note says so.
      false;
  /// Patterns of names (core/text.h) that may be extra. They also say which network of several is meant.
  std::vector<std::string> ignore_extra = {};
};

/// Copies tensors with torchvision's names into the model's parameters and running statistics. Differences
/// that it accepts:
/// - `module.` prefixes (and torch.compile's `_orig_mod.`) are stripped.
/// - A prefix of the whole network ("backbone.") is stripped, and a note says so.
/// - `num_batches_tracked` and `n_averaged` are ignored.
/// - Other spellings of a family's names (older checkpoints, timm's) are understood, and a classifier in a
///   list ("fc.1.weight", behind a dropout).
/// - What is unusable (core/safetensors.h) and not needed is extra, as any other tensor.
/// - The weights of a fully connected layer may have the shape of a filter, and the reverse.
/// - bf16 is widened to f32.
/// - An auxiliary head may be missing as a whole; it keeps the model's own values.
///
/// Throws bad_data, with the number of missing, extra, misshapen and non-finite tensors and negative
/// variances, and the first of them; the model is then unchanged. Returns notes for the user.
std::vector<std::string> load_weights(Model& model, const NamedTensors& file,
                                      const LoadWeightsOptions& options = {});

/// Returns the same tensors under the names of that network, as load_weights understands them. Throws
/// bad_data when two tensors get the same name.
NamedTensors with_canonical_names(const NamedTensors& file, const ModelInfo& info);

/// Returns the same tensors, under the names of that network, with the rows of its classifiers in another
/// order: row i is the file's row order[i]. Throws bad_data when a classifier has another number of rows.
NamedTensors with_classes_reordered(const NamedTensors& file, const ModelInfo& info,
                                    const std::vector<int>& order);
/// Returns the same tensors, under the names of that network, without its classifiers.
NamedTensors without_classifier(const NamedTensors& file, const ModelInfo& info);

/// Adds the parameters and buffers to `to`, under their names. The tensors share the model's storage.
void export_weights(Model& model, NamedTensors& to);

/// Why a file has no such network, for the end of a message: "; this looks like resnet50", several networks,
/// tensors that are unusable; empty for what is not known.
std::string other_network(const NamedTensors& file, const ModelInfo& info);

/// The number of classes in a file of weights of that network (rows of its classifier); 0 when the file has
/// no classifier.
int classes_in(const NamedTensors& file, const ModelInfo& info,
               const std::vector<std::string>& ignore_extra = {});
/// The number of input channels of the first convolution; 0 when unknown.
int channels_in(const NamedTensors& file, const ModelInfo& info,
                const std::vector<std::string>& ignore_extra = {});

}  // namespace faq
