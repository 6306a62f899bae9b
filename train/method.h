// What a run does to its network besides training it. train knows only this; the programs supply it
// (tools/quantization.h), so that quantization and training stay strangers.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "nn/models.h"

namespace faq {

/// Batches of images, u8 N,H,W,C, until it returns nothing.
using Batches = std::function<std::optional<Tensor>()>;
/// The first `count` training batches; each call begins anew.
using BatchSource = std::function<Batches(int count)>;

/// The default is floating-point training: nothing to prepare, nothing to deploy.
class Method {
 public:
  virtual ~Method() = default;

  /// After the weights are loaded, before the first step. Returns a line for the log; empty: nothing to say.
  virtual std::string prepare(Model& /*model*/, const BatchSource& /*training_batches*/) { return {}; }

  /// Before a checkpoint is loaded: gives the model the form it had when it was saved; its state is in the
  /// file.
  virtual void install(Model& /*model*/) {}

  /// Writes the form that is deployed, of the model in eval mode, into the folder.
  struct Deployment {
    std::filesystem::path folder = {};
    int height = 0, width = 0, channels = 0;        ///< of the images it will see
    std::map<std::string, std::string> about = {};  ///< what should be known of it
  };
  virtual void deploy(Model& /*model*/, const Deployment& /*deployment*/) {}

  /// One row per layer of what would be deployed, for --dry-run, after prepare().
  virtual nlohmann::json layers(Model& /*model*/, const Deployment& /*deployment*/) {
    return nlohmann::json::array();
  }
};

}  // namespace faq
