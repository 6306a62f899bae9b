// Var: a node of the autograd tape.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/tensor.h"

namespace faq {

/// One gradient per input of an op. An undefined tensor means no gradient.
using Grads = std::vector<Tensor>;
/// Maps the gradient of an op's output to the gradients of its inputs.
using Backward = std::function<Grads(const Tensor& output_grad)>;
/// The same for an op that can add to what is there. sums: the gradient that an input has got from other ops
/// already, where nobody else holds it; else undefined. The op may add its gradient of input i to sums[i],
/// and then returns that for input i. It must not keep it. Inputs that are one Var have one sum.
using AddingBackward = std::function<Grads(const Tensor& output_grad, const Grads& sums)>;

/// What an op tells a reader of the tape besides its name. quant compiles the integer network from it.
struct OpInfo {
  virtual ~OpInfo() = default;
};

/// A node of the tape: value, gradient, and how the value was made. Var is a cheap handle; copies refer to
/// the same node. Value and gradient have independent dtypes: a u8 value has a bf16 or f32 gradient, taken
/// with respect to the real number that the integer stands for.
class Var {
 public:
  Var() = default;  ///< no value: defined() is false, and every other access throws
  explicit Var(Tensor value, bool requires_grad = false);

  /// Returns the result of an op, and puts the op on the tape. Keeps only the value while the tape is off
  /// (NoGrad), or when no input requires a gradient and there is no `info`. `backward` must capture tensors,
  /// never the output Var (that would be a cycle of ownership).
  static Var record(const char* op, Tensor value, std::vector<Var> inputs, Backward backward,
                    std::shared_ptr<const OpInfo> info = nullptr);
  /// The same for an op that can add to the gradients of its inputs.
  static Var record_adding(const char* op, Tensor value, std::vector<Var> inputs, AddingBackward backward,
                           std::shared_ptr<const OpInfo> info = nullptr);

  bool defined() const { return node_ != nullptr; }
  explicit operator bool() const { return defined(); }

  const Tensor& value() const { return node().value; }
  /// For optimizers and loaders. Only for leaves.
  Tensor& mutable_value() { return node().value; }
  const Shape& shape() const { return value().shape(); }
  bool requires_grad() const { return node().requires_grad; }

  /// The accumulated gradient of a leaf after backward(); undefined before it.
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
    bool spent = false;  ///< a backward pass has used this node
    const char* op = "leaf";
    std::vector<Var> inputs;
    AddingBackward backward;
    std::shared_ptr<const OpInfo> info;
  };
  /// Every access goes through this function, because a default-constructed Var has no node.
  Node& node() const {
    check(defined(), "var: no value (default-constructed)");
    return *node_;
  }

  std::shared_ptr<Node> node_;

  friend class BackwardPass;
};

/// Returns the nodes of the tape that `root` was made from. Inputs come before the nodes made from them.
std::vector<Var> topological_order(const Var& root);

/// Called for a leaf whose gradient is complete.
using OnLeaf = std::function<void(Var& leaf)>;

/// Back-propagates from `root`. `seed`: the gradient of root, by default 1 (root must then be a scalar, a
/// loss). Gradients are added to those of the leaves that require one. Saved tensors are released during the
/// pass, so a tape can be used once; a second use throws.
///
/// `on_leaf` is called once for each leaf that gets a gradient, as soon as this pass has added the last
/// contribution. So a gradient can be sent to other machines while others are still being computed. on_leaf
/// may change the gradient.
void backward(Var root, Tensor seed = {}, OnLeaf on_leaf = {});
void backward(Var root, OnLeaf on_leaf);

/// While alive, decides whether this thread's ops go on the tape. The innermost guard counts.
class RecordingGuard {
 public:
  explicit RecordingGuard(bool recording);
  ~RecordingGuard();
  RecordingGuard(const RecordingGuard&) = delete;
  RecordingGuard& operator=(const RecordingGuard&) = delete;

 private:
  bool previous_;
};

/// While alive, this thread's ops do not go on the tape.
class NoGrad : RecordingGuard {
 public:
  NoGrad() : RecordingGuard(false) {}
};

/// While alive, this thread's ops go on the tape, even inside a NoGrad. For functions that read the tape
/// themselves.
class EnableGrad : RecordingGuard {
 public:
  EnableGrad() : RecordingGuard(true) {}
};

}  // namespace faq
