#include "quant/flow.h"

#include <set>
#include <vector>

namespace faq {
namespace {

class Trace {
 public:
  Var run(const std::string& name, Unit& unit, Inputs inputs) {
    read(unit, inputs);
    Var y = unit.compute(inputs);
    kept_.push_back(y);  // an id is its own only while its value lives
    if (dynamic_cast<Concat*>(&unit)) {
      sources_[y.id()] = tied(inputs);
    } else if (makes_values(unit)) {
      flow_[name].tied_to = name;
      flow_[name].is_signed = !has_relu(unit);
      sources_[y.id()] = {name};
    } else {
      if (dynamic_cast<Linear*>(&unit)) take_in(name, inputs[0]);
      sources_[y.id()] = sources_[inputs[0].id()];
      if (dynamic_cast<GlobalAvgPool*>(&unit) || means_.contains(inputs[0].id())) means_.insert(y.id());
    }
    return y;
  }

  // With the first of each group in the place of whoever it was tied to on the way, and what is known of one
  // known of all.
  std::map<std::string, UnitFlow> result() {
    for (auto& [name, flow] : flow_) flow.tied_to = first_of(name);
    for (const auto& [name, flow] : flow_) add(flow_.at(flow.tied_to), flow);
    for (auto& [name, flow] : flow_) add(flow, flow_.at(flow.tied_to));
    return flow_;
  }

 private:
  static bool makes_values(const Unit& unit) {
    return dynamic_cast<const Input*>(&unit) || dynamic_cast<const ConvUnit*>(&unit) ||
           dynamic_cast<const NormAct*>(&unit);
  }

  static bool has_relu(const Unit& unit) {
    const auto* conv = dynamic_cast<const ConvUnit*>(&unit);
    return dynamic_cast<const NormAct*>(&unit) || (conv && conv->relu());
  }

  static void add(UnitFlow& to, const UnitFlow& flow) {
    to.read_by_conv |= flow.read_by_conv;
    to.read_by_norm |= flow.read_by_norm;
    to.read_by_classifier |= flow.read_by_classifier;
    to.is_signed |= flow.is_signed;
  }

  // A classifier multiplies integers as they come; sums over an image have too many bits for that.
  void take_in(const std::string& name, const Var& x) {
    UnitFlow& taken = flow_[name];
    taken.tied_to = name;
    taken.read_by_classifier = true;
    for (const std::string& source : sources_[x.id()]) {
      taken.is_signed |= flow_.at(source).is_signed;
      if (!means_.contains(x.id())) taken.tied_to = source;
    }
  }

  void read(const Unit& unit, Inputs inputs) {
    for (const std::string& source : sources_[inputs[0].id()]) {
      UnitFlow& flow = flow_[source];
      flow.read_by_conv |= dynamic_cast<const ConvUnit*>(&unit) != nullptr;
      flow.read_by_norm |= dynamic_cast<const NormAct*>(&unit) != nullptr;
      flow.read_by_classifier |= dynamic_cast<const Linear*>(&unit) != nullptr;
    }
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

  std::map<std::string, UnitFlow> flow_;
  std::map<const void*, std::vector<std::string>> sources_;
  std::set<const void*> means_;  ///< over whole images
  std::vector<Var> kept_;
};

class Tracer final : public Adapter {
 public:
  Tracer(std::string name, Unit& unit, Trace& trace) : name_(std::move(name)), unit_(unit), trace_(trace) {}
  Var forward(Inputs inputs) override { return trace_.run(name_, unit_, inputs); }

 private:
  std::string name_;
  Unit& unit_;
  Trace& trace_;
};

}  // namespace

std::map<std::string, UnitFlow> trace_flow(Model& model, const Tensor& image) {
  Trace trace;
  const TemporaryAdapters tracers(model, [&](const std::string& name, Unit& unit) {
    return std::make_shared<Tracer>(name, unit, trace);
  });
  const NoGrad no_grad;
  set_training(model, false);
  model.forward(Var(image));
  return trace.result();
}

}  // namespace faq
