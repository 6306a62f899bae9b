#include "quant/calibration.h"

#include "quant/adapters.h"

namespace faq {
namespace {

// Counts the values that pass between units.
class Observer final : public UnitObserver {
 public:
  Observer(Model& model, CalibrationResult& result) : names_(unit_names(model)), result_(result) {}

  void saw(Unit& unit, Inputs inputs, const Var& output) override {
    const auto name = names_.find(&unit);
    if (name == names_.end()) return;
    const auto flow = result_.flow.find(name->second);
    if (flow == result_.flow.end()) return;
    const std::string& tied_to = flow->second.tied_to;
    if (unit.role() != UnitRole::linear)
      result_.activations[tied_to].add(output.value());
    else if (tied_to == name->second)  // the input of a tied Linear was counted where it was made
      result_.activations[tied_to].add(inputs[0].value());
  }

 private:
  std::map<const Unit*, std::string> names_;
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
  Observer observer(model, result);
  // Weights as the network was trained with them (quantized if they are), activations in floating point.
  const Pass pass{.precision = {.activations = false}, .observer = &observer};
  const NoGrad no_grad;
  for (; images; images = next_images()) {
    model.forward(pass, Var(*images));
    result.images += images->dim(0);
  }
  return result;
}

}  // namespace faq
