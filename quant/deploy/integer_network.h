// The deployable: a flat list of integer ops, and what is done to an image before the first.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "quant/deploy/integer_op.h"
#include "quant/deploy/memory_plan.h"
#include "quant/deploy/preprocessing.h"

namespace faq {

class IntegerNetwork {
 public:
  /// One op: what it does and the values it reads (0: the images, i: the result of op i−1).
  struct Node {
    std::shared_ptr<const IntegerOp> op;
    std::vector<int> inputs;
  };
  /// Throws for ops that cannot follow each other, whose names are not their own, or whose results nobody
  /// reads, for a last op that is not a classifier, and for class names that are not as many as its outputs.
  /// Models are compiled into one by quant/compile.h.
  IntegerNetwork(std::vector<Node> nodes, Preprocessing preprocessing);

  /// Reads formats 1 to 4 (quant/deploy/integer_format.h). Throws as read_safetensors does, and bad_data
  /// (naming the op) for a description that is not a valid network, and for tensors and ops that are no part
  /// of it.
  static IntegerNetwork load(const std::filesystem::path& file);
  /// Writes format 4. `about`: entries added to the metadata ("model", "epoch", …).
  /// Throws io, and diverged when a multiplier or a bias is not finite: such a file could not be loaded.
  void save(const std::filesystem::path& file, const std::map<std::string, std::string>& about = {}) const;

  /// u8 images N,H,W,C to logits N,K f32. What lies between them shares one block (where every thread takes
  /// its share of the images, one per thread), planned for images of height() and width() when the network is
  /// made, and anew for others.
  Tensor forward(const Tensor& images, Engine engine = Engine::integer) const;
  /// As forward, keeping the result of every op: what --compare and tests look at.
  std::vector<Tensor> forward_all(const Tensor& images, Engine engine = Engine::integer) const;

  /// What is done to an image before forward(); its mean and standard deviation are in the first op.
  const Preprocessing& preprocessing() const { return preprocessing_; }
  std::int64_t height() const { return preprocessing_.height; }
  std::int64_t width() const { return preprocessing_.width; }
  std::int64_t channels() const { return preprocessing_.channels; }
  std::int64_t num_classes() const;
  /// Bytes of the planned block, for each image a thread takes through the network.
  std::int64_t activation_bytes() const { return plan_.memory.bytes; }
  /// What each op makes of one image.
  const std::vector<TensorInfo>& results() const { return plan_.results; }
  /// Bytes of weights as stored (packed), and of multipliers and biases.
  std::int64_t weight_bytes() const;
  const std::map<std::string, std::string>& about() const { return about_; }

  const std::vector<Node>& nodes() const { return nodes_; }

 private:
  // For one image; of n it is n times as much.
  struct Plan {
    std::vector<TensorInfo> results;  // of the nodes
    MemoryPlan memory;                // where they lie, but for the last one
  };
  Plan plan_for(std::int64_t height, std::int64_t width) const;
  void check_images(const Tensor& images) const;
  void check_names_and_inputs() const;
  void check_all_is_read() const;
  void run(const Tensor& images, Engine engine, const Plan& plan, Tensor& logits) const;

  std::vector<Node> nodes_;
  Preprocessing preprocessing_;
  Plan plan_;
  std::map<std::string, std::string> about_;
};

/// Whether a file is an integer network (by its metadata).
bool is_integer_network(const std::map<std::string, std::string>& metadata);

}  // namespace faq
