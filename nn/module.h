// Module: lists its children and parameters once, through a visitor. Everything that walks a model —
// parameters, checkpoint keys, train/eval mode, the replacement of layers by quantized adapters — uses that
// one list.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/var.h"

namespace faq {

class Visitor;
class Unit;
class ConvNormAct;

class Module {
 public:
  virtual ~Module() = default;
  virtual void visit(Visitor& visitor) = 0;
};

/// What a walk over a model does at each thing it meets. Modules call child(), parameter(), buffer() and
/// setting() with their own names; the visitor keeps the path and hands out full names such as
/// "layer1.0.conv1.weight".
class Visitor {
 public:
  virtual ~Visitor() = default;

  void child(const std::string& name, Module& module);
  /// A unit whose convolution and normalisation have names of their own in checkpoints ("conv1" and "bn1").
  void child(const std::string& conv_name, const std::string& norm_name, ConvNormAct& unit);
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

/// Executes a unit in place of its own floating-point code: calibration, quantized training, integer
/// evaluation.
class Adapter {
 public:
  virtual ~Adapter() = default;
  virtual Var forward(Inputs inputs) = 0;
  /// The adapter's own state, stored under the unit's name.
  virtual void visit(Visitor& /*visitor*/) {}
};

/// The smallest thing that can be quantized: a layer, or layers that are fused. Models are written in units
/// and know nothing of quantization.
class Unit : public Module {
 public:
  Var operator()(Inputs inputs) { return adapter_ ? adapter_->forward(inputs) : compute(inputs); }
  Var operator()(const Var& x) { return (*this)(Inputs(&x, 1)); }
  Var operator()(const Var& x, const Var& residual) {
    const Var both[] = {x, residual};
    return (*this)(both);
  }
  /// In floating point.
  virtual Var compute(Inputs inputs) = 0;

  void visit(Visitor& visitor) override {
    visit_own(visitor);
    if (adapter_) adapter_->visit(visitor);
  }

  /// Whether it belongs to an auxiliary head: absent from the deployed network, and so never quantized.
  bool training_only() const { return training_only_; }
  void set_training_only() { training_only_ = true; }

  bool training() const { return training_; }
  void set_training(bool training) { training_ = training; }
  Adapter* adapter() const { return adapter_.get(); }
  const std::shared_ptr<Adapter>& shared_adapter() const { return adapter_; }
  void set_adapter(std::shared_ptr<Adapter> adapter) { adapter_ = std::move(adapter); }

 protected:
  virtual void visit_own(Visitor&) {}
  void visit_adapter(Visitor& visitor) {
    if (adapter_) adapter_->visit(visitor);
  }

 private:
  std::shared_ptr<Adapter> adapter_;
  bool training_ = false;
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
void set_training(Module& module, bool training);

/// Other adapters on all units, for a while: `make` may build on the one a unit has. The destructor puts
/// those back.
class TemporaryAdapters {
 public:
  using Make = std::function<std::shared_ptr<Adapter>(const std::string& name, Unit& unit)>;
  TemporaryAdapters(Module& module, const Make& make);
  ~TemporaryAdapters();
  TemporaryAdapters(const TemporaryAdapters&) = delete;
  TemporaryAdapters& operator=(const TemporaryAdapters&) = delete;

 private:
  void exchange();
  std::vector<std::pair<Unit*, std::shared_ptr<Adapter>>>
      others_;  ///< those of the units, while ours are in use
};

}  // namespace faq
