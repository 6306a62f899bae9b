#include "core/var.h"

#include <algorithm>
#include <iterator>
#include <unordered_map>
#include <unordered_set>

#include "core/kernels/elementwise.h"

namespace faq {
namespace {

thread_local bool recording = true;

}  // namespace

// Recursion over a long chain could overflow the stack. So a node that dies takes over the inputs of the
// nodes that only it holds.
Var::Node::~Node() {
  std::vector<Var> orphans = std::move(inputs);
  while (!orphans.empty()) {
    const Var var = std::move(orphans.back());
    orphans.pop_back();
    if (!var.defined() || var.node_.use_count() > 1) continue;
    std::ranges::move(var.node_->inputs, std::back_inserter(orphans));
    var.node_->inputs.clear();
  }
}

Var::Var(Tensor value, bool requires_grad) : node_(std::make_shared<Node>()) {
  node_->value = std::move(value);
  node_->requires_grad = requires_grad;
}

Var Var::record(const char* op, Tensor value, std::vector<Var> inputs, Backward backward,
                std::shared_ptr<const OpInfo> info) {
  AddingBackward ignoring_sums;
  if (backward)
    ignoring_sums = [backward = std::move(backward)](const Tensor& dy, const Grads&) { return backward(dy); };
  return record_adding(op, std::move(value), std::move(inputs), std::move(ignoring_sums), std::move(info));
}

Var Var::record_adding(const char* op, Tensor value, std::vector<Var> inputs, AddingBackward backward,
                       std::shared_ptr<const OpInfo> info) {
  Var result(std::move(value));
  result.node_->op = op;
  if (!recording) return result;
  const bool differentiable =
      std::ranges::any_of(inputs, [](const Var& v) { return v.defined() && v.requires_grad(); });
  if (!differentiable && !info) return result;
  result.node_->requires_grad = differentiable;
  result.node_->inputs = std::move(inputs);
  result.node_->info = std::move(info);
  if (differentiable) result.node_->backward = std::move(backward);
  return result;
}

std::vector<Var> topological_order(const Var& root) {
  std::vector<Var> order;
  std::unordered_set<const void*> seen{root.id()};
  std::vector<std::pair<Var, std::size_t>> stack{{root, 0}};  // deep networks: no recursion
  while (!stack.empty()) {
    auto& [var, next] = stack.back();
    if (next < var.inputs().size()) {
      const Var& input = var.inputs()[next++];
      if (input.defined() && seen.insert(input.id()).second) stack.emplace_back(input, 0);
    } else {
      order.push_back(var);
      stack.pop_back();
    }
  }
  return order;
}

class BackwardPass {
 public:
  BackwardPass(Var root, Tensor seed, OnLeaf on_leaf)
      : on_leaf_(std::move(on_leaf)), order_(topological_order(root)) {
    for (const Var& var : order_) {
      if (!var.requires_grad()) continue;
      for (const Var& input : var.inputs()) {
        if (input.defined() && input.requires_grad()) ++awaited_[input.id()];
      }
    }
    pending_[root.id()].sum = std::move(seed);
  }

  void run() {
    while (!order_.empty()) {
      Var var = std::move(order_.back());
      order_.pop_back();
      if (!var.requires_grad()) continue;
      const auto entry = pending_.find(var.id());
      if (is_leaf(var)) {
        // Most leaves are complete before. Left are the root, and leaves that some contributions did not
        // reach.
        if (entry != pending_.end()) complete(var);
      } else if (entry != pending_.end()) {
        Pending total = std::move(entry->second);
        pending_.erase(entry);
        propagate(*var.node_, std::move(total.sum));
      } else {
        for (Var& input : var.node_->inputs) contribution_came(input);
      }
    }
  }

 private:
  // A sum of several gradients may be written in place. A single gradient may be shared with saved tensors of
  // another op.
  struct Pending {
    Tensor sum;
    bool owned = false;
  };

  static bool is_leaf(const Var& var) { return !var.node_->backward; }

  // The sums of these inputs that an op may add to.
  Grads own_sums(const std::vector<Var>& inputs) const {
    std::vector<const Tensor*> own(inputs.size());  // handles come last, as they are counted
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      if (!inputs[i].defined()) continue;
      const auto entry = pending_.find(inputs[i].id());
      if (entry != pending_.end() && (entry->second.owned || entry->second.sum.is_only_handle()))
        own[i] = &entry->second.sum;
    }
    Grads sums;
    for (const Tensor* sum : own) sums.push_back(sum ? *sum : Tensor());
    return sums;
  }

  void add(const Var& input, const Tensor& grad) {
    Pending& slot = pending_[input.id()];
    if (!slot.sum) {
      slot.sum = grad;
    } else if (!slot.owned) {
      slot.sum = kernels::add(slot.sum, grad);
      slot.owned = true;
    } else {
      kernels::add_in_place(slot.sum, grad);
    }
  }

  // Passes the gradient of a node on to its inputs, and releases what the node holds.
  void propagate(Var::Node& node, Tensor total) {
    std::vector<Var> inputs = std::move(node.inputs);
    {
      Grads sums = own_sums(inputs);
      Grads grads = node.backward(total, sums);
      total = {};
      node.backward = nullptr;
      node.inputs = {};
      node.spent = true;
      check(grads.size() == inputs.size(), "backward of '", node.op, "': ", grads.size(), " gradients for ",
            inputs.size(), " inputs");
      for (std::size_t i = 0; i < grads.size(); ++i) {
        if (!grads[i] || !inputs[i].defined() || !inputs[i].requires_grad()) continue;
        check(grads[i].shape() == inputs[i].shape(), "backward of '", node.op, "': input ", i, " has shape ",
              inputs[i].shape(), ", its gradient ", grads[i].shape());
        if (sums[i] && grads[i].same_storage(sums[i])) {  // the op has added to it
          pending_.at(inputs[i].id()).owned = true;
        } else {
          sums[i] = {};  // about to be replaced
          add(inputs[i], grads[i]);
        }
        grads[i] = {};  // a gradient that only the sum holds can be moved to the leaf
      }
    }
    for (Var& input : inputs) contribution_came(input);
  }

  // Counts one of the contributions that `input` waits for. The contribution may have been none.
  void contribution_came(Var& input) {
    if (!input.defined() || !input.requires_grad()) return;
    if (--awaited_.at(input.id()) == 0 && is_leaf(input) && pending_.contains(input.id())) complete(input);
  }

  void complete(Var& leaf) {
    const auto entry = pending_.find(leaf.id());
    Pending total = std::move(entry->second);
    pending_.erase(entry);
    Var::Node& node = *leaf.node_;
    check(!node.spent, "backward: the tape behind '", node.op, "' has been used already");
    if (node.grad) {
      kernels::add_in_place(node.grad, total.sum);
    } else if (total.owned || total.sum.is_only_handle()) {
      node.grad = std::move(total.sum);
    } else {
      node.grad = total.sum.clone();
    }
    if (on_leaf_) on_leaf_(leaf);
  }

  const OnLeaf on_leaf_;
  std::vector<Var> order_;  ///< nodes still to be processed; the next one is last
  std::unordered_map<const void*, Pending> pending_;
  std::unordered_map<const void*, std::int64_t> awaited_;  ///< contributions to each input of a node
};

void backward(Var root, Tensor seed, OnLeaf on_leaf) {
  check(root.defined() && root.requires_grad(),
        "backward: the root does not depend on anything that wants a gradient");
  if (!seed) {
    check(root.value().numel() == 1, "backward: a root of shape ", root.shape(), " needs a seed");
    seed = Tensor::full(root.shape(), 1.0f);
  }
  check(seed.shape() == root.shape(), "backward: seed ", seed.shape(), " for a root of ", root.shape());
  BackwardPass pass(std::move(root), std::move(seed), std::move(on_leaf));
  pass.run();
}

void backward(Var root, OnLeaf on_leaf) { backward(std::move(root), {}, std::move(on_leaf)); }

RecordingGuard::RecordingGuard(bool on) : previous_(recording) { recording = on; }
RecordingGuard::~RecordingGuard() { recording = previous_; }

}  // namespace faq
