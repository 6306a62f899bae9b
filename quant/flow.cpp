#include "quant/flow.h"

#include <set>
#include <vector>

namespace faq {
namespace {

class Trace final : public UnitObserver {
 public:
  explicit Trace(Model& model) : names_(unit_names(model)) {}

  void saw(Unit& unit, Inputs inputs, const Var& y) override {
    const auto known = names_.find(&unit);
    if (known == names_.end()) {  // a dropout that is a part of its unit, for one
      check(unit.role() == UnitRole::move, ErrorKind::usage,
            "model: a unit with weights runs that visit() does not list");
      return;
    }
    const std::string& name = known->second;
    // An id is unique only while its value lives, so all values are kept.
    kept_.insert(kept_.end(), inputs.begin(), inputs.end());
    kept_.push_back(y);
    read(unit.role(), inputs);
    switch (unit.role()) {
      case UnitRole::concatenation:
        sources_[y.id()] = tied(inputs);
        break;
      case UnitRole::input:
      case UnitRole::convolution:
      case UnitRole::normalization:
        flow_[name].tied_to = name;
        flow_[name].is_signed = !unit.makes_nonnegative();
        flow_[name].in_sum |= adds_residual(unit.role(), inputs);
        sources_[y.id()] = {name};
        break;
      case UnitRole::linear:
        take_in(name, inputs[0]);
        move(inputs[0], y);
        break;
      case UnitRole::mean:
        means_.insert(y.id());
        move(inputs[0], y);
        break;
      case UnitRole::move:
        move(inputs[0], y);
        break;
    }
  }

  // Ties every unit to the first unit of its group (units may have been tied in chains), and gives all units
  // of a group the same facts.
  std::map<std::string, UnitFlow> result() {
    for (auto& [name, flow] : flow_) flow.tied_to = first_of(name);
    for (const auto& [name, flow] : flow_) add(flow_.at(flow.tied_to), flow);
    for (auto& [name, flow] : flow_) add(flow, flow_.at(flow.tied_to));
    return flow_;
  }

 private:
  void move(const Var& x, const Var& y) {
    sources_[y.id()] = sources_[x.id()];
    if (means_.contains(x.id())) means_.insert(y.id());
  }

  static void add(UnitFlow& to, const UnitFlow& flow) {
    to.read_by_conv |= flow.read_by_conv;
    to.read_by_norm |= flow.read_by_norm;
    to.read_by_classifier |= flow.read_by_classifier;
    to.in_sum |= flow.in_sum;
    to.is_signed |= flow.is_signed;
  }

  // A classifier multiplies 8-bit integers as they come. It must quantize sums over an image itself: they
  // have too many bits.
  void take_in(const std::string& name, const Var& x) {
    UnitFlow& taken = flow_[name];
    taken.tied_to = name;
    taken.read_by_classifier = true;
    for (const std::string& source : sources_[x.id()]) {
      taken.is_signed |= flow_.at(source).is_signed;
      if (!means_.contains(x.id())) taken.tied_to = source;
    }
  }

  static bool adds_residual(UnitRole role, Inputs inputs) {
    return role == UnitRole::convolution && inputs.size() > 1;
  }

  void read(UnitRole role, Inputs inputs) {
    for (const std::string& source : sources_[inputs[0].id()]) {
      UnitFlow& flow = flow_[source];
      flow.read_by_conv |= role == UnitRole::convolution;
      flow.read_by_norm |= role == UnitRole::normalization;
      flow.read_by_classifier |= role == UnitRole::linear;
    }
    if (!adds_residual(role, inputs)) return;
    for (const std::string& source : sources_[inputs[1].id()]) flow_[source].in_sum = true;
  }

  std::string first_of(std::string name) const {
    while (flow_.at(name).tied_to != name) name = flow_.at(name).tied_to;
    return name;
  }

  std::vector<std::string> tied(Inputs inputs) {
    std::vector<std::string> all;
    for (const Var& input : inputs) {
      const auto& from = sources_[input.id()];
      all.insert(all.end(), from.begin(), from.end());
    }
    for (const std::string& name : all) flow_[first_of(name)].tied_to = first_of(all.front());
    return all;
  }

  std::map<const Unit*, std::string> names_;
  std::map<std::string, UnitFlow> flow_;
  std::map<const void*, std::vector<std::string>> sources_;
  std::set<const void*> means_;  ///< ids of means over whole images
  std::vector<Var> kept_;
};

}  // namespace

std::map<std::string, UnitFlow> trace_flow(Model& model, const Tensor& image) {
  Trace trace(model);
  const NoGrad no_grad;
  model.forward({.precision = {.weights = false, .activations = false}, .observer = &trace}, Var(image));
  return trace.result();
}

}  // namespace faq
