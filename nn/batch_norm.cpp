#include "nn/batch_norm.h"

#include <vector>

namespace faq {

int reestimate_batch_norm(Model& model, const std::function<std::optional<Tensor>()>& next_images) {
  struct Saved {
    Unit* unit;
    bool training;
    NormState* norm;  // none: it does not normalise
    float momentum;
  };
  // Modes and momenta are what they were however this ends.
  struct Restored {
    std::vector<Saved> units;
    ~Restored() {
      for (const Saved& u : units) {
        u.unit->set_training(u.training);
        if (u.norm) u.norm->momentum = u.momentum;
      }
    }
  } restored;
  for_each_unit(model, [&](const std::string&, Unit& unit) {
    NormState* norm = nullptr;
    if (auto* conv = dynamic_cast<ConvUnit*>(&unit); conv && conv->has_batch_norm()) norm = &conv->norm();
    if (auto* norm_act = dynamic_cast<NormAct*>(&unit)) norm = &norm_act->norm();
    restored.units.push_back({&unit, unit.training(), norm, norm ? norm->momentum : 0.0f});
    unit.set_training(norm != nullptr);
  });
  const NoGrad no_grad;
  int batches = 0;
  while (const auto images = next_images()) {
    ++batches;
    for (const Saved& u : restored.units)
      if (u.norm) u.norm->momentum = 1.0f / static_cast<float>(batches);  // a plain mean
    model.forward(Var(*images));
  }
  return batches;
}

}  // namespace faq
