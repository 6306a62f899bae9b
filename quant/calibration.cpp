#include "quant/calibration.h"

#include "quant/adapters.h"

namespace faq {
namespace {

// Computes as the unit does, with the weights it has been given, and looks at what passes.
class Observer final : public Adapter {
 public:
  Observer(std::string name, Unit& unit, CalibrationResult& result)
      : name_(std::move(name)), unit_(unit), inner_(unit.shared_adapter()), result_(result) {
    set_float_activations(true);
  }
  ~Observer() override { set_float_activations(false); }
  Observer(const Observer&) = delete;
  Observer& operator=(const Observer&) = delete;

  Var forward(Inputs inputs) override {
    const auto flow = result_.flow.find(name_);
    const bool takes_in = dynamic_cast<Linear*>(&unit_) != nullptr;
    if (takes_in && flow->second.tied_to == name_) result_.activations[name_].add(inputs[0].value());
    Var y = inner_ ? inner_->forward(inputs) : unit_.compute(inputs);
    if (!takes_in && flow != result_.flow.end()) result_.activations[flow->second.tied_to].add(y.value());
    return y;
  }

 private:
  void set_float_activations(bool wanted) {
    if (auto* quantized = dynamic_cast<QuantizedUnit*>(inner_.get()))
      quantized->set_float_activations(wanted);
  }

  std::string name_;
  Unit& unit_;
  std::shared_ptr<Adapter> inner_;
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
  const TemporaryAdapters observers(model, [&](const std::string& name, Unit& unit) {
    return std::make_shared<Observer>(name, unit, result);
  });
  const NoGrad no_grad;
  for (; images; images = next_images()) {
    model.forward(Var(*images));
    result.images += images->dim(0);
  }
  return result;
}

}  // namespace faq
