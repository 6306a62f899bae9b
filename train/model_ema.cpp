#include "train/model_ema.h"

#include <algorithm>

#include "core/kernels/elementwise.h"
#include "core/profile.h"
#include "train/checkpoint.h"

namespace faq {

ModelEma::ModelEma(Module& model, double decay) : decay_(decay) {
  for (const auto& [name, parameter] : parameters(model))
    entries_.push_back({name, parameter.value(), parameter.value().clone()});
  for (const auto& [name, statistic] : running_statistics(model))
    entries_.push_back({name, statistic, statistic.clone()});
}

void ModelEma::update(std::int64_t updates) {
  const Booked booked(Work::optimizer);
  const auto n = static_cast<double>(updates);
  const auto share = static_cast<float>(1.0 - std::min(decay_, (1.0 + n) / (10.0 + n)));
  for (Entry& entry : entries_) kernels::move_towards(entry.average, entry.value, share);
}

void ModelEma::exchange() {
  for (Entry& entry : entries_)
    std::ranges::swap_ranges(entry.value.mutable_span<float>(), entry.average.mutable_span<float>());
}

void ModelEma::export_state(NamedTensors& to) const {
  for (const Entry& entry : entries_) to.add(state_prefix::average + entry.name, entry.average);
}

void ModelEma::import_state(const NamedTensors& from, const std::string& source) {
  for (Entry& entry : entries_) copy_state(from, source, state_prefix::average + entry.name, entry.average);
}

}  // namespace faq
