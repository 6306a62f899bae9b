#include "nn/module.h"

#include <set>

#include "nn/units.h"

namespace faq {

template <class Body>
void Visitor::inside(const std::string& name, Body body) {
  const std::string outer = path_;
  path_ = full(name);
  body();
  path_ = outer;
}

void Visitor::child(const std::string& name, Module& module) {
  inside(name, [&] {
    if (Unit* unit = module.as_unit()) on_unit(path_, *unit);
    module.visit(*this);
  });
}

void Visitor::child(const std::string& conv_name, const std::string& norm_name, ConvUnit& unit) {
  inside(conv_name, [&] {
    on_unit(path_, unit);
    unit.visit_conv(*this);
    unit.visit_adapter(*this);
  });
  inside(norm_name, [&] { unit.visit_norm(*this); });
}

Var Unit::operator()(const Pass& pass, Inputs inputs) {
  Var output = adapter_ ? adapter_->forward(pass, inputs) : compute(pass, inputs);
  if (pass.observer) pass.observer->saw(*this, inputs, output);
  return output;
}

std::shared_ptr<Adapter> Unit::quantized_form(const QuantizedForms&) {
  fail(ErrorKind::internal, "a unit of a kind that has no quantized form");
}

namespace {

// The names of a walk, which must differ.
class Names {
 public:
  const std::string& add(const std::string& name) {
    check(known_.insert(name).second, ErrorKind::usage, "model: visit() lists two things called '", name,
          "'");
    return name;
  }

 private:
  std::set<std::string> known_;
};

struct ParameterCollector final : Visitor {
  Names names;
  std::vector<Named<Var>> found;
  void on_parameter(const std::string& name, Var& parameter) override {
    found.push_back({names.add(name), parameter});
  }
};

struct ScaleCollector final : Visitor {
  std::vector<Named<Var>> found;
  void on_scale(const std::string& name, Var& scale) override { found.push_back({name, scale}); }
};

struct BufferCollector final : Visitor {
  std::vector<Named<Tensor>> found;
  void on_buffer(const std::string& name, Tensor& buffer) override { found.push_back({name, buffer}); }
};

struct StatisticsCollector final : Visitor {
  std::vector<Named<Tensor>> found;
  void on_buffer(const std::string& name, Tensor& buffer) override { found.push_back({name, buffer}); }
  void on_setting(const std::string&, Tensor&) override {}
};

struct UnitCaller final : Visitor {
  explicit UnitCaller(const std::function<void(const std::string&, Unit&)>& f) : body(f) {}
  const std::function<void(const std::string&, Unit&)>& body;
  Names names;
  void on_unit(const std::string& path, Unit& unit) override { body(names.add(path), unit); }
};

template <class Collector>
auto collect(Module& module) {
  Collector collector;
  module.visit(collector);
  return std::move(collector.found);
}

}  // namespace

std::vector<Named<Var>> parameters(Module& module) { return collect<ParameterCollector>(module); }

std::vector<Named<Var>> scales(Module& module) { return collect<ScaleCollector>(module); }

std::vector<Named<Tensor>> buffers(Module& module) { return collect<BufferCollector>(module); }

std::vector<Named<Tensor>> running_statistics(Module& module) { return collect<StatisticsCollector>(module); }

std::map<const Unit*, std::string> unit_names(Module& module) {
  std::map<const Unit*, std::string> names;
  for_each_unit(module, [&](const std::string& name, Unit& unit) { names[&unit] = name; });
  return names;
}

void for_each_unit(Module& module, const std::function<void(const std::string&, Unit&)>& body) {
  UnitCaller caller(body);
  module.visit(caller);
}

}  // namespace faq
