// A method: what a run does to its network besides training it. The method of a quantized run:
// train/quantized_training.h.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "nn/models.h"
#include "quant/deploy/preprocessing.h"

namespace faq {

/// Returns batches of images, u8 N,H,W,C, until it returns nothing.
using Batches = std::function<std::optional<Tensor>()>;
/// Returns the first `count` training batches. Each call starts from the beginning.
using BatchSource = std::function<Batches(int count)>;

/// The default is floating-point training: nothing to prepare, nothing to deploy.
///
/// In a run of several ranks each has its own Method. begin_phase() and end_epoch() are called on the first
/// rank alone; the others get install() and then the first rank's network. before_step() is called on all,
/// and must do the same on all: it may depend on its arguments and on the model, not on what only
/// begin_phase() has seen. deploy() and layers() are called on the first rank.
class Method {
 public:
  virtual ~Method() = default;

  /// True if the network it trains is quantized. A run whose recipe says otherwise is refused.
  virtual bool quantizes() const { return false; }

  /// The number of phases of a run. They run one after the other. Each phase has its share of the epochs, its
  /// own learning-rate schedule and fresh momentum, and starts from the final weights of the phase before. A
  /// run without epochs is its last phase alone. The best network of a run is that of its last phase.
  virtual int phases() const { return 1; }

  /// Describes what a phase trains, for the log and the plan.
  virtual std::string describe(int /*phase*/) const { return "floating point"; }

  /// Called before the first step of a phase, with the weights loaded. Returns a line for the log; may be
  /// empty. Lines after it are notices, or warnings (warning_prefix).
  virtual std::string begin_phase(Model& /*model*/, int /*phase*/, const BatchSource& /*training_batches*/) {
    return {};
  }

  /// Called before a checkpoint of a phase is loaded. Gives the model the form it had when it was saved; the
  /// state is in the file.
  virtual void install(Model& /*model*/, int /*phase*/) {}

  /// Called before the optimizer step numbered `step`, when the fraction `done` of the phase (0 to 1) is
  /// over. Returns which parts of the network this step computes in integers.
  virtual PrecisionPlan before_step(Model& /*model*/, double /*done*/, std::int64_t /*step*/) { return {}; }

  /// Called after an epoch, before the model is evaluated and saved.
  virtual void end_epoch(Model& /*model*/, const BatchSource& /*training_batches*/) {}

  /// Writes the deployed form of the model (in eval mode) into the folder and returns its file. Writes
  /// nothing and returns an empty path in a phase without a deployed form.
  struct Deployment {
    std::filesystem::path folder = {};
    Preprocessing images = {};                      ///< the images the network will see
    std::map<std::string, std::string> about = {};  ///< facts about the network, stored in its file
  };
  virtual std::filesystem::path deploy(Model& /*model*/, const Deployment& /*deployment*/) { return {}; }

  /// Returns one row per layer of the network that would be deployed, for --dry-run.
  virtual nlohmann::json layers(Model& /*model*/, const Deployment& /*deployment*/) {
    return nlohmann::json::array();
  }
};

}  // namespace faq
