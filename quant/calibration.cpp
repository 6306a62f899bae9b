#include "quant/calibration.h"

namespace faq {
namespace {

// Computes as the unit does and looks at what passes.
class Observer final : public Adapter {
 public:
  Observer(std::string name, Unit& unit, CalibrationResult& result)
      : name_(std::move(name)), unit_(unit), result_(result) {}

  Var forward(Inputs inputs) override {
    if (dynamic_cast<Linear*>(&unit_)) result_.activations[name_].add(inputs[0].value());
    Var y = unit_.compute(inputs);
    const auto flow = result_.flow.find(name_);
    if (flow != result_.flow.end()) result_.activations[flow->second.tied_to].add(y.value());
    return y;
  }

 private:
  std::string name_;
  Unit& unit_;
  CalibrationResult& result_;
};

}  // namespace

const Histogram& CalibrationResult::histogram(const std::string& unit) const {
  const auto tied = flow.find(unit);
  const auto found = activations.find(tied == flow.end() ? unit : tied->second.tied_to);
  check(found != activations.end(), "quantize: calibration has not seen '", unit, "'");
  return found->second;
}

CalibrationResult calibrate(Model& model, const std::function<std::optional<Tensor>()>& next_images) {
  CalibrationResult result;
  auto images = next_images();
  check(images.has_value() && images->dim(0) > 0, ErrorKind::bad_data, "calibration: no images");
  result.flow = trace_flow(model, images->rows(0, 1));
  for_each_unit(model, [&](const std::string& name, Unit& unit) {
    unit.set_adapter(std::make_shared<Observer>(name, unit, result));
  });
  const NoGrad no_grad;
  for (; images; images = next_images()) {
    model.forward(Var(*images));
    result.images += images->dim(0);
  }
  for_each_unit(model, [](const std::string&, Unit& unit) { unit.set_adapter(nullptr); });
  return result;
}

}  // namespace faq
