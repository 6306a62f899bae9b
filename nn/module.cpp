#include "nn/module.h"

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
    if (auto* unit = dynamic_cast<Unit*>(&module)) on_unit(path_, *unit);
    module.visit(*this);
  });
}

void Visitor::child(const std::string& conv_name, const std::string& norm_name, ConvNormAct& unit) {
  inside(conv_name, [&] {
    on_unit(path_, unit);
    unit.visit_conv(*this);
  });
  inside(norm_name, [&] { unit.visit_norm(*this); });
}

namespace {

struct ParameterCollector final : Visitor {
  std::vector<Named<Var>> found;
  void on_parameter(const std::string& name, Var& parameter) override { found.push_back({name, parameter}); }
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
  void on_unit(const std::string& path, Unit& unit) override { body(path, unit); }
};

template <class Collector>
auto collect(Module& module) {
  Collector collector;
  module.visit(collector);
  return std::move(collector.found);
}

}  // namespace

std::vector<Named<Var>> parameters(Module& module) { return collect<ParameterCollector>(module); }

std::vector<Named<Tensor>> buffers(Module& module) { return collect<BufferCollector>(module); }

std::vector<Named<Tensor>> running_statistics(Module& module) { return collect<StatisticsCollector>(module); }

void for_each_unit(Module& module, const std::function<void(const std::string&, Unit&)>& body) {
  UnitCaller caller(body);
  module.visit(caller);
}

TemporaryAdapters::TemporaryAdapters(Module& module, const Make& make) {
  for_each_unit(module,
                [&](const std::string& name, Unit& unit) { others_.emplace_back(&unit, make(name, unit)); });
  exchange();
}

TemporaryAdapters::~TemporaryAdapters() { exchange(); }

void TemporaryAdapters::exchange() {
  for (auto& [unit, other] : others_) {
    auto present = unit->shared_adapter();
    unit->set_adapter(std::move(other));
    other = std::move(present);
  }
}

void set_training(Module& module, bool training) {
  for_each_unit(module, [training](const std::string&, Unit& unit) { unit.set_training(training); });
}

}  // namespace faq
