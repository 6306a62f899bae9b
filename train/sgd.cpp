#include "train/sgd.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "core/kernels/elementwise.h"
#include "core/kernels/learned_scale.h"
#include "core/kernels/quantization_error.h"
#include "core/profile.h"
#include "train/checkpoint.h"

namespace faq {

Sgd::Sgd(Module& model, const SgdOptions& options) : Sgd(parameters(model), options) {
  std::set<const void*> learned;
  for (const auto& [name, scale] : scales(model)) learned.insert(scale.id());
  for (std::size_t i = 0; i < parameters_.size(); ++i)
    is_scale_[i] = learned.contains(parameters_[i].value.id());
  std::map<const void*, std::shared_ptr<QuantizedUnit>> quantizers;  // by memory: units may reshape weights
  for_each_unit(model, [&](const std::string&, Unit& unit) {
    const auto quantizer = std::dynamic_pointer_cast<QuantizedUnit>(unit.share_adapter());
    const Var weights = quantizer ? quantizer->master_weights() : Var();
    if (weights) quantizers[weights.value().raw()] = quantizer;
  });
  for (std::size_t i = 0; i < parameters_.size(); ++i)
    quantizers_[i] = quantizers[parameters_[i].value.value().raw()];
}

Sgd::Sgd(std::vector<Named<Var>> parameters, const SgdOptions& options)
    : parameters_(std::move(parameters)),
      is_scale_(parameters_.size()),
      quantizers_(parameters_.size()),
      options_(options) {
  for (const auto& [name, parameter] : parameters_) velocity_.push_back(Tensor::zeros(parameter.shape()));
}

double Sgd::step(double lr, double grad_scale) {
  const Booked booked(Work::optimizer);
  double squares = 0;
  for (auto& [name, parameter] : parameters_) {
    check(parameter.grad().defined(), "sgd: parameter ", name, " has no gradient");
    squares += kernels::sum_of_squares(parameter.grad());
  }
  const double norm = std::sqrt(squares) * grad_scale;
  if (!std::isfinite(norm)) return norm;
  double scale = grad_scale;
  if (options_.clip_grad_norm > 0) scale *= std::min(1.0, options_.clip_grad_norm / (norm + 1e-6));
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    Var& parameter = parameters_[i].value;
    const Tensor before = is_scale_[i] ? parameter.value().clone() : Tensor();
    const double weight_decay = is_scale_[i] ? 0 : options_.weight_decay;
    update(i, {static_cast<float>(lr), static_cast<float>(options_.momentum),
               static_cast<float>(weight_decay), static_cast<float>(scale)});
    if (before) kernels::limit_step(parameter.mutable_value(), before, least_scale);
    parameter.clear_grad();
  }
  return norm;
}

void Sgd::update(std::size_t i, const kernels::SgdStep& step) {
  Var& parameter = parameters_[i].value;
  // Asked at each step: a checkpoint may set the quantizer later than the optimizer is made.
  const auto [seen, bits, how] =
      quantizers_[i] ? quantizers_[i]->watched_weights() : QuantizedUnit::WatchedWeights{};
  if (!seen) return kernels::sgd_update(parameter.mutable_value(), velocity_[i], parameter.grad(), step);
  // The scale rarely changes from step to step, so these formats are likely to be the next ones.
  SeenWeights now;
  if (seen->version && how != WeightScale::max) now.formats = weight_formats(seen->max_magnitude, bits, how);
  kernels::QuantizationErrors errors(parameter.value().numel(), now.formats);
  kernels::sgd_update(parameter.mutable_value(), velocity_[i], parameter.grad(), step, &errors);
  now.version = parameter.value().version();
  now.max_magnitude = errors.max_magnitude();
  now.errors = errors.errors();
  *seen = std::move(now);
}

void Sgd::export_state(NamedTensors& to) const {
  for (std::size_t i = 0; i < parameters_.size(); ++i)
    to.add(state_prefix::momentum + parameters_[i].name, velocity_[i]);
}

void Sgd::import_state(const NamedTensors& from, const std::string& source) {
  for (std::size_t i = 0; i < parameters_.size(); ++i)
    copy_state(from, source, state_prefix::momentum + parameters_[i].name, velocity_[i]);
}

}  // namespace faq
