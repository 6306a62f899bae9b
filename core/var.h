// Var: a node of the autograd tape.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/tensor.h"

namespace faq {

/// One gradient per input of an op; an undefined tensor where there is none.
using Grads = std::vector<Tensor>;
/// Maps the gradient of an op's output to those of its inputs.
using Backward = std::function<Grads(const Tensor& output_grad)>;

/// What an op wants to tell a reader of the tape besides its name: quant compiles the integer network from
/// it.
struct OpInfo {
  virtual ~OpInfo() = default;
};

/// Value, gradient, and how the value was made. A cheap handle; copies name the same node. Value and gradient
/// have independent dtypes: a u8 value has a bf16 or f32 gradient with respect to the number it stands for.
class Var {
 public:
  Var() = default;  ///< no value: defined() is false, and reading anything of it is an error
  explicit Var(Tensor value, bool requires_grad = false);

  /// The result of an op. Nothing is kept for the backward pass while recording is off (NoGrad), or when no
  /// input requires a gradient and there is no `info`. `backward` must capture tensors, never the output Var
  /// (a cycle).
  static Var record(const char* op, Tensor value, std::vector<Var> inputs, Backward backward,
                    std::shared_ptr<const OpInfo> info = nullptr);

  bool defined() const { return node_ != nullptr; }
  explicit operator bool() const { return defined(); }

  const Tensor& value() const { return node().value; }
  /// For optimizers and loaders: leaves only.
  Tensor& mutable_value() { return node().value; }
  const Shape& shape() const { return value().shape(); }
  bool requires_grad() const { return node().requires_grad; }

  /// The accumulated gradient of a leaf after backward(); undefined before.
  const Tensor& grad() const { return node().grad; }
  Tensor& mutable_grad() { return node().grad; }
  void clear_grad() { node().grad = {}; }

  const char* op() const { return node().op; }
  const std::vector<Var>& inputs() const { return node().inputs; }
  const std::shared_ptr<const OpInfo>& info() const { return node().info; }
  bool same_node(const Var& other) const { return node_ == other.node_; }
  const void* id() const { return node_.get(); }

 private:
  struct Node {
    Node() = default;
    ~Node();
    Node(const Node&) = delete;
    Node& operator=(const Node&) = delete;

    Tensor value;
    Tensor grad;
    bool requires_grad = false;
    bool spent = false;  ///< a backward pass went through
    const char* op = "leaf";
    std::vector<Var> inputs;
    Backward backward;
    std::shared_ptr<const OpInfo> info;
  };
  /// Every access goes through here: a default-constructed Var has no node.
  Node& node() const {
    check(defined(), "var: no value (default-constructed)");
    return *node_;
  }

  std::shared_ptr<Node> node_;

  friend class BackwardPass;
};

/// The tape behind `root`, inputs before the nodes made from them.
std::vector<Var> topological_order(const Var& root);

/// Told of a leaf whose gradient is complete.
using OnLeaf = std::function<void(Var& leaf)>;

/// Back-propagates from `root`; `seed` defaults to ones (a scalar loss). Gradients accumulate in the leaves
/// that require one. Saved tensors are released as the pass leaves them behind: a tape serves once, and
/// reaching a node of a used one is an error.
///
/// `on_leaf` is called once for each leaf that gets a gradient, as soon as the last contribution of this pass
/// is in it: while the gradients of the others are still on their way, it can be sent to other machines. It
/// may change the gradient.
void backward(Var root, Tensor seed = {}, OnLeaf on_leaf = {});
void backward(Var root, OnLeaf on_leaf);

/// While alive, decides whether ops of this thread are recorded; the innermost one counts.
class RecordingGuard {
 public:
  explicit RecordingGuard(bool recording);
  ~RecordingGuard();
  RecordingGuard(const RecordingGuard&) = delete;
  RecordingGuard& operator=(const RecordingGuard&) = delete;

 private:
  bool previous_;
};

/// While alive, ops of this thread record nothing.
class NoGrad : RecordingGuard {
 public:
  NoGrad() : RecordingGuard(false) {}
};

/// While alive, ops of this thread record, within a NoGrad too: for functions that read the tape themselves.
class EnableGrad : RecordingGuard {
 public:
  EnableGrad() : RecordingGuard(true) {}
};

}  // namespace faq
