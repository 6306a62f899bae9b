// The quantized forms of the library's units. Declared in nn, so that a unit can ask for its own form. quant
// implements them.
#pragma once

#include <memory>
#include <string>

namespace faq {

class Adapter;
class AvgPool;
class Concat;
class ConvUnit;
class GlobalAvgPool;
class Input;
class Linear;
class MaxPool;
class NormAct;
class Shortcut;

class QuantizedForms {
 public:
  virtual ~QuantizedForms() = default;
  /// The name of the unit that asks. Its op in the deployed network gets this name.
  virtual const std::string& name() const = 0;
  virtual std::shared_ptr<Adapter> of(Input& unit) const = 0;
  virtual std::shared_ptr<Adapter> of(ConvUnit& unit) const = 0;
  virtual std::shared_ptr<Adapter> of(NormAct& unit) const = 0;
  virtual std::shared_ptr<Adapter> of(Linear& unit) const = 0;
  virtual std::shared_ptr<Adapter> of(Shortcut& unit) const = 0;
  virtual std::shared_ptr<Adapter> of(MaxPool& unit) const = 0;
  virtual std::shared_ptr<Adapter> of(AvgPool& unit) const = 0;
  virtual std::shared_ptr<Adapter> of(Concat& unit) const = 0;
  virtual std::shared_ptr<Adapter> of(GlobalAvgPool& unit) const = 0;
};

}  // namespace faq
