// The network that is deployed: a flat list of integer ops, and the preprocessing of an image before the
// first op.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/safetensors.h"
#include "quant/deploy/integer_op.h"
#include "quant/deploy/memory_plan.h"
#include "quant/deploy/preprocessing.h"

namespace faq {

class IntegerNetwork {
 public:
  /// One op and the values it reads (0: the images, i: the result of op i−1).
  struct Node {
    std::shared_ptr<const IntegerOp> op;
    std::vector<int> inputs;
  };
  /// Makes a network of these ops. A model is compiled into one by quant/compile.h. Throws for ops that
  /// cannot follow each other, two ops with the same name, a result that no op reads, a last op that is not a
  /// classifier, and a number of class names that is not the number of outputs.
  IntegerNetwork(std::vector<Node> nodes, Preprocessing preprocessing);

  /// Reads this format and all before it (quant/deploy/integer_format.h). Throws as read_safetensors does.
  /// Throws bad_data (with the name of the op) for a description that is not a valid network, and for tensors
  /// that no op uses and ops whose result no op reads, and for a file without checksums, which save() always
  /// writes.
  static IntegerNetwork load(const std::filesystem::path& file);
  /// The same of contents that are in memory, with checksums or without. `source`: a name for messages.
  static IntegerNetwork from(NamedTensors contents, const std::string& source);
  /// Writes the newest format. `about`: entries added to the metadata ("model", "epoch", …). Throws io.
  /// Throws diverged when a multiplier or a bias is not finite, because such a file could not be loaded.
  void save(const std::filesystem::path& file, const std::map<std::string, std::string>& about = {}) const;

  /// Takes u8 images N,H,W,C, returns f32 logits N,K. The values between the ops share one block of memory.
  /// If each thread takes its own share of the images, a few at a time, there is one block per thread. The
  /// block is planned once for images of height() and width(), and planned again in each call for other
  /// sizes. Several threads may call it at a time.
  Tensor forward(const Tensor& images, Engine engine = Engine::integer) const;
  /// As forward, but returns the result of every op, for --compare and tests.
  std::vector<Tensor> forward_all(const Tensor& images, Engine engine = Engine::integer) const;

  /// The preprocessing of an image before forward(). Its mean and standard deviation are part of the first
  /// op.
  const Preprocessing& preprocessing() const { return preprocessing_; }
  std::int64_t height() const { return preprocessing_.height; }
  std::int64_t width() const { return preprocessing_.width; }
  std::int64_t channels() const { return preprocessing_.channels; }
  std::int64_t num_classes() const;
  /// Bytes of the planned block per image. A thread that takes n images through the network needs n times as
  /// much.
  std::int64_t activation_bytes() const { return plan_.memory.bytes; }
  /// The result of each op for one image.
  const std::vector<TensorInfo>& results() const { return plan_.results; }
  /// Bytes of the weights as stored (packed), of the multipliers and of the biases.
  std::int64_t weight_bytes() const;
  const std::map<std::string, std::string>& about() const { return about_; }

  /// The name of the first tensor of multipliers or biases with a number that is not finite; empty: none.
  std::string first_not_finite() const;

  const std::vector<Node>& nodes() const { return nodes_; }

 private:
  // The plan for one image. n images need n times the memory.
  struct Plan {
    std::vector<TensorInfo> results;  // of each node
    MemoryPlan memory;                // where the results lie, except the last one
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

/// True if this is the metadata of an integer network.
bool is_integer_network(const std::map<std::string, std::string>& metadata);

}  // namespace faq
