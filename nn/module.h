// Module: lists its children and parameters once, through a visitor. Everything that walks a model
// (parameters, checkpoint keys, the replacement of layers by quantized adapters) uses that one list.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "nn/pass.h"

namespace faq {

class ConvUnit;
class QuantizedForms;
class Random;
class Visitor;

class Module {
 public:
  virtual ~Module() = default;
  virtual void visit(Visitor& visitor) = 0;
  /// The module as a unit; null: it is made of several.
  virtual Unit* as_unit() { return nullptr; }
};

/// What a walk over a model does at each thing it meets. Modules call child(), parameter(), buffer() and
/// setting() with their own names; the visitor keeps the path and hands out full names such as
/// "layer1.0.conv1.weight".
class Visitor {
 public:
  virtual ~Visitor() = default;

  void child(const std::string& name, Module& module);
  /// A unit whose convolution and normalisation have names of their own in checkpoints ("conv1" and "bn1");
  /// one that has no normalisation leaves out that name.
  void child(const std::string& conv_name, const std::string& norm_name, ConvUnit& unit);
  void parameter(const std::string& name, Var& parameter) { on_parameter(full(name), parameter); }
  void buffer(const std::string& name, Tensor& buffer) { on_buffer(full(name), buffer); }
  /// A buffer that is set, not learnt: it has no average.
  void setting(const std::string& name, Tensor& setting) { on_setting(full(name), setting); }

 protected:
  virtual void on_unit(const std::string& /*path*/, Unit& /*unit*/) {}
  virtual void on_parameter(const std::string& /*name*/, Var& /*parameter*/) {}
  virtual void on_buffer(const std::string& /*name*/, Tensor& /*buffer*/) {}
  virtual void on_setting(const std::string& name, Tensor& setting) { on_buffer(name, setting); }

 private:
  std::string full(const std::string& name) const { return path_.empty() ? name : path_ + "." + name; }
  template <class Body>
  void inside(const std::string& name, Body body);

  std::string path_;
};

/// What a unit is given: one value; to ConvNormAct perhaps a second, the residual added before its
/// activation; to Concat any number.
using Inputs = std::span<const Var>;

/// Executes a unit in integers, in place of its own floating-point code.
class Adapter {
 public:
  virtual ~Adapter() = default;
  virtual Var forward(const Pass& pass, Inputs inputs) = 0;
  /// The adapter's own state, stored under the unit's name.
  virtual void visit(Visitor& /*visitor*/) {}
};

/// What a unit does with what it is given: all that calibration and quantization need to know of it.
enum class UnitRole {
  input,          ///< makes values of pixels
  convolution,    ///< makes values, reads integers
  normalization,  ///< makes values; stands before a convolution
  linear,         ///< makes logits; quantizes what it reads itself, if nobody has
  concatenation,  ///< moves values; those of all inputs get one format
  mean,           ///< of whole images: integers become sums
  move            ///< hands on values it was given: pooling, subsampling, dropout
};

/// The smallest thing that can be quantized: a layer, or layers that are fused. Models are written in units
/// and know nothing of quantization. A unit of your own derives from this, implements compute() and, if it
/// is to be quantized, quantized_form() (docs/example/own_unit.cpp).
class Unit : public Module {
 public:
  Var operator()(const Pass& pass, Inputs inputs);
  Var operator()(const Pass& pass, const Var& x) { return (*this)(pass, Inputs(&x, 1)); }
  Var operator()(const Pass& pass, const Var& x, const Var& residual) {
    const Var both[] = {x, residual};
    return (*this)(pass, both);
  }
  /// In floating point.
  virtual Var compute(const Pass& pass, Inputs inputs) = 0;

  virtual UnitRole role() const { return UnitRole::move; }
  /// Whether the values it makes are never negative.
  virtual bool makes_nonnegative() const { return false; }
  /// What it normalises with the statistics of the batch in training; null: it does not.
  virtual NormState* batch_norm() { return nullptr; }
  /// What a quantizer rounds, as checkpoints have it; null: it has no weights.
  virtual Var* weights() { return nullptr; }
  /// Draws random weights.
  virtual void initialize(Random& /*random*/) {}
  /// How it is executed in integers; null: as in floating point, it does nothing to them. Throws internal
  /// for a unit that has no such form.
  virtual std::shared_ptr<Adapter> quantized_form(const QuantizedForms& forms);

  Unit* as_unit() override { return this; }
  void visit(Visitor& visitor) override {
    visit_own(visitor);
    visit_adapter(visitor);
  }

  /// Whether it belongs to an auxiliary head: absent from the deployed network, and so never quantized.
  bool training_only() const { return training_only_; }
  void set_training_only() { training_only_ = true; }

  Adapter* adapter() const { return adapter_.get(); }
  void set_adapter(std::shared_ptr<Adapter> adapter) { adapter_ = std::move(adapter); }

 protected:
  virtual void visit_own(Visitor&) {}
  void visit_adapter(Visitor& visitor) {
    if (adapter_) adapter_->visit(visitor);
  }

 private:
  std::shared_ptr<Adapter> adapter_;
  bool training_only_ = false;
};

template <class T>
struct Named {
  std::string name;
  T value;
};

/// In the order the model lists them.
std::vector<Named<Var>> parameters(Module& module);
/// Running statistics and quantizer state; handles on the model's own storage.
std::vector<Named<Tensor>> buffers(Module& module);
/// Those of them that are learnt.
std::vector<Named<Tensor>> running_statistics(Module& module);
void for_each_unit(Module& module, const std::function<void(const std::string&, Unit&)>& body);
/// For whoever observes a pass.
std::map<const Unit*, std::string> unit_names(Module& module);

}  // namespace faq
