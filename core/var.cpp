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

// A long chain must not be destroyed by recursion: what only this node holds hands over its inputs first.
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

void backward(Var root, Tensor seed) {
  check(root.defined() && root.requires_grad(),
        "backward: the root does not depend on anything that wants a gradient");
  if (!seed) {
    check(root.value().numel() == 1, "backward: a root of shape ", root.shape(), " needs a seed");
    seed = Tensor::full(root.shape(), 1.0f);
  }
  check(seed.shape() == root.shape(), "backward: seed ", seed.shape(), " for a root of ", root.shape());

  // A sum of several gradients may be written in place; a single one may be shared with another op's saved
  // tensors.
  struct Pending {
    Tensor sum;
    bool owned = false;
  };
  std::unordered_map<const void*, Pending> pending;
  const auto accumulate = [](Pending& slot, const Tensor& grad) {
    if (!slot.sum) {
      slot.sum = grad;
    } else if (!slot.owned) {
      slot.sum = kernels::add(slot.sum, grad);
      slot.owned = true;
    } else {
      kernels::add_in_place(slot.sum, grad);
    }
  };

  std::vector<Var> order = topological_order(root);
  pending[root.id()].sum = std::move(seed);
  root = {};
  while (!order.empty()) {
    const Var var = std::move(order.back());
    order.pop_back();
    Var::Node& node = *var.node_;
    const auto entry = pending.find(var.id());
    if (entry == pending.end() || !node.requires_grad) continue;
    Pending total = std::move(entry->second);
    pending.erase(entry);
    check(!node.spent, "backward: the tape behind '", node.op, "' has been used already");
    if (!node.backward) {  // a leaf
      if (!node.grad) {
        node.grad = total.owned ? total.sum : total.sum.clone();
      } else {
        kernels::add_in_place(node.grad, total.sum);
      }
      continue;
    }
    const Grads grads = node.backward(total.sum);
    total = {};
    check(grads.size() == node.inputs.size(), "backward of '", node.op, "': ", grads.size(),
          " gradients for ", node.inputs.size(), " inputs");
    for (std::size_t i = 0; i < grads.size(); ++i) {
      const Var& input = node.inputs[i];
      if (!grads[i] || !input.defined() || !input.requires_grad()) continue;
      check(grads[i].shape() == input.shape(), "backward of '", node.op, "': input ", i, " has shape ",
            input.shape(), ", its gradient ", grads[i].shape());
      accumulate(pending[input.id()], grads[i]);
    }
    node.backward = nullptr;
    node.inputs = {};
    node.spent = true;
  }
}

RecordingGuard::RecordingGuard(bool on) : previous_(recording) { recording = on; }
RecordingGuard::~RecordingGuard() { recording = previous_; }

}  // namespace faq
