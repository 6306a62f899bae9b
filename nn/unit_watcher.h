// Sees the units of a forward pass by their names.
#pragma once

#include <functional>
#include <map>
#include <string>

#include "nn/module.h"

namespace faq {

/// Calls `see` with the name of each unit that has one, the unit and its output, in order.
class UnitWatcher final : public UnitObserver {
 public:
  using See = std::function<void(const std::string& name, Unit& unit, const Tensor& output)>;
  UnitWatcher(Module& module, See see) : names_(unit_names(module)), see_(std::move(see)) {}
  void saw(Unit& unit, std::span<const Var>, const Var& output) override {
    const auto name = names_.find(&unit);
    if (name != names_.end()) see_(name->second, unit, output.value());
  }

 private:
  std::map<const Unit*, std::string> names_;
  See see_;
};

}  // namespace faq
