// What a run does to its network besides training it. That of a quantized run: train/quantized_training.h.
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

/// Batches of images, u8 N,H,W,C, until it returns nothing.
using Batches = std::function<std::optional<Tensor>()>;
/// The first `count` training batches; each call begins anew.
using BatchSource = std::function<Batches(int count)>;

/// The default is floating-point training: nothing to prepare, nothing to deploy.
class Method {
 public:
  virtual ~Method() = default;

  /// Whether the network it trains is quantized; a run whose recipe says otherwise is refused.
  virtual bool quantizes() const { return false; }

  /// The phases of a run, one after the other. Each has its share of the epochs, its own learning-rate
  /// schedule and fresh momentum, and starts from the weights the one before ended with; a run without epochs
  /// is its last phase alone. The best network of a run is that of its last phase.
  virtual int phases() const { return 1; }

  /// What a phase trains, for the log and the plan.
  virtual std::string describe(int /*phase*/) const { return "floating point"; }

  /// Before the first step of a phase, with the weights loaded. Returns a line for the log; empty: nothing to
  /// say.
  virtual std::string begin_phase(Model& /*model*/, int /*phase*/, const BatchSource& /*training_batches*/) {
    return {};
  }

  /// Before a checkpoint of a phase is loaded: gives the model the form it had when it was saved; its state
  /// is in the file.
  virtual void install(Model& /*model*/, int /*phase*/) {}

  /// Before the optimizer step numbered `step`, when `done` of the phase (0 to 1) is over: what of the
  /// network that step computes in integers.
  virtual PrecisionPlan before_step(Model& /*model*/, double /*done*/, std::int64_t /*step*/) { return {}; }

  /// After an epoch, before the model is evaluated and saved.
  virtual void end_epoch(Model& /*model*/, const BatchSource& /*training_batches*/) {}

  /// Writes the form that is deployed, of the model in eval mode, into the folder; nothing in a phase that
  /// has none.
  struct Deployment {
    std::filesystem::path folder = {};
    Preprocessing images = {};                      ///< what it will see
    std::map<std::string, std::string> about = {};  ///< what should be known of it
  };
  virtual void deploy(Model& /*model*/, const Deployment& /*deployment*/) {}

  /// One row per layer of what would be deployed, for --dry-run.
  virtual nlohmann::json layers(Model& /*model*/, const Deployment& /*deployment*/) {
    return nlohmann::json::array();
  }
};

}  // namespace faq
