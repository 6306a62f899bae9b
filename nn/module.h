// Module: lists its children and parameters once, through a visitor. All code that walks a model uses that
// list: parameters, names in checkpoints, the installation of quantized adapters.
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

///
/// A module cannot be copied: adapters refer to the units that they execute.
class Module {
 public:
  Module() = default;
  virtual ~Module() = default;
  Module(const Module&) = delete;
  Module& operator=(const Module&) = delete;
  virtual void visit(Visitor& visitor) = 0;
  /// The module as a unit; null if it is made of several units.
  virtual Unit* as_unit() { return nullptr; }
};

/// Says what a walk over a model does with each thing it meets. Modules call child(), parameter(), buffer()
/// and setting() with their own names. The visitor keeps the path and passes full names such as
/// "layer1.0.conv1.weight" to the on_ functions.
class Visitor {
 public:
  virtual ~Visitor() = default;

  void child(const std::string& name, Module& module);
  /// A unit whose convolution and normalisation have separate names in checkpoints ("conv1" and "bn1"). A
  /// unit without normalisation does not use the second name. The state of its adapter goes with the
  /// convolution.
  void child(const std::string& conv_name, const std::string& norm_name, ConvUnit& unit);
  void parameter(const std::string& name, Var& parameter) { on_parameter(full(name), parameter); }
  /// A parameter that is a learned scale of a quantizer: it is positive, and weight decay leaves it alone.
  void scale(const std::string& name, Var& scale) { on_scale(full(name), scale); }
  void buffer(const std::string& name, Tensor& buffer) { on_buffer(full(name), buffer); }
  /// A buffer that is set, not learned. A moving average of the model leaves it out.
  void setting(const std::string& name, Tensor& setting) { on_setting(full(name), setting); }

 protected:
  virtual void on_unit(const std::string& /*path*/, Unit& /*unit*/) {}
  virtual void on_parameter(const std::string& /*name*/, Var& /*parameter*/) {}
  virtual void on_scale(const std::string& name, Var& scale) { on_parameter(name, scale); }
  virtual void on_buffer(const std::string& /*name*/, Tensor& /*buffer*/) {}
  virtual void on_setting(const std::string& name, Tensor& setting) { on_buffer(name, setting); }

 private:
  std::string full(const std::string& name) const { return path_.empty() ? name : path_ + "." + name; }
  template <class Body>
  void inside(const std::string& name, Body body);

  std::string path_;
};

/// The inputs of a unit: one value. A ConvNormAct may get a second one, the residual that is added before the
/// activation. A Concat gets any number.
using Inputs = std::span<const Var>;

/// Executes a unit in integers, instead of the unit's own floating-point code.
class Adapter {
 public:
  virtual ~Adapter() = default;
  virtual Var forward(const Pass& pass, Inputs inputs) = 0;
  /// Lists the adapter's own state, which is stored under the unit's name.
  virtual void visit(Visitor& /*visitor*/) {}
};

/// What a unit does with its inputs. Calibration and quantization need to know nothing else about it.
enum class UnitRole {
  input,          ///< makes values from pixels
  convolution,    ///< makes values; reads integers
  normalization,  ///< makes values; comes before a convolution
  linear,         ///< makes logits; quantizes its input if the input is not quantized
  concatenation,  ///< moves values; all inputs get one format
  mean,           ///< mean over a whole image: integers become sums
  move            ///< passes its input values on: pooling, subsampling, dropout
};

/// The smallest thing that can be quantized: one layer, or several fused layers. Models are written in units
/// and know nothing of quantization. To write a unit of your own, derive from this class and implement
/// compute() and, if the unit can be quantized, quantized_form() (docs/example/own_unit.cpp).
class Unit : public Module {
  friend class Visitor;

 public:
  Var operator()(const Pass& pass, Inputs inputs);
  Var operator()(const Pass& pass, const Var& x) { return (*this)(pass, Inputs(&x, 1)); }
  Var operator()(const Pass& pass, const Var& x, const Var& residual) {
    const Var both[] = {x, residual};
    return (*this)(pass, both);
  }
  /// Computes the output in floating point.
  virtual Var compute(const Pass& pass, Inputs inputs) = 0;

  virtual UnitRole role() const { return UnitRole::move; }
  /// True if the output is never negative.
  virtual bool makes_nonnegative() const { return false; }
  /// The normalisation that uses the statistics of the batch in training; null if the unit has none.
  virtual NormState* batch_norm() { return nullptr; }
  /// The weights that a quantizer rounds, as they are in checkpoints; null if the unit has none.
  virtual Var* weights() { return nullptr; }
  /// Draws random weights.
  virtual void initialize(Random& /*random*/) {}
  /// Returns the adapter that executes the unit in integers. Null: the unit does nothing to integers and runs
  /// as in floating point. Throws internal for a unit that has no quantized form.
  virtual std::shared_ptr<Adapter> quantized_form(const QuantizedForms& forms);

  Unit* as_unit() override { return this; }
  void visit(Visitor& visitor) override {
    visit_own(visitor);
    visit_adapter(visitor);
  }

  /// True if the unit belongs to an auxiliary head. Such a unit is not in the deployed network, so it is
  /// never quantized.
  bool training_only() const { return training_only_; }
  void set_training_only() { training_only_ = true; }

  Adapter* adapter() const { return adapter_.get(); }
  std::shared_ptr<Adapter> share_adapter() const { return adapter_; }
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

/// All parameters, in the order the model lists them. Throws usage for a name that it lists twice.
std::vector<Named<Var>> parameters(Module& module);
/// Only those that are learned scales.
std::vector<Named<Var>> scales(Module& module);
/// Running statistics and quantizer state. The tensors are handles on the model's own storage.
std::vector<Named<Tensor>> buffers(Module& module);
/// Only the buffers that are learned: without quantizer state.
std::vector<Named<Tensor>> running_statistics(Module& module);
/// Throws usage for a name that is listed twice.
void for_each_unit(Module& module, const std::function<void(const std::string&, Unit&)>& body);
/// The name of each unit, for observers of a pass.
std::map<const Unit*, std::string> unit_names(Module& module);

}  // namespace faq
