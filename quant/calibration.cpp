#include "quant/calibration.h"

namespace faq {
namespace {

// Computes as the unit does and looks at what passes.
class Observer final : public Adapter {
 public:
  Observer(std::string name, Unit& unit, CalibrationResult& result)
      : name_(std::move(name)), unit_(unit), result_(result) {}

  Var forward(const Var& x, const Var& residual) override {
    if (dynamic_cast<Linear*>(&unit_)) result_.activations[name_].add(x.value());
    Var y = unit_.compute(x, residual);
    const bool is_conv = dynamic_cast<ConvNormAct*>(&unit_) != nullptr;
    if (is_conv) result_.last_unit = name_;  // the last one to run
    if (is_conv || dynamic_cast<Input*>(&unit_)) result_.activations[name_].add(y.value());
    return y;
  }

 private:
  std::string name_;
  Unit& unit_;
  CalibrationResult& result_;
};

}  // namespace

CalibrationResult calibrate(Model& model, const std::function<std::optional<Tensor>()>& next_images) {
  CalibrationResult result;
  for_each_unit(model, [&](const std::string& name, Unit& unit) {
    unit.set_adapter(std::make_shared<Observer>(name, unit, result));
  });
  const NoGrad no_grad;
  set_training(model, false);
  while (const auto images = next_images()) {
    model.forward(Var(*images));
    result.images += images->dim(0);
  }
  for_each_unit(model, [](const std::string&, Unit& unit) { unit.set_adapter(nullptr); });
  check(result.images > 0, ErrorKind::bad_data, "calibration: no images");
  return result;
}

}  // namespace faq
