#include "core/kernels/packed_weights.h"

#include "core/kernels/weight_forms.h"

namespace faq::kernels {
namespace {

Tensor as_filter(const Tensor& weights) {
  return weights.rank() == 2 ? weights.reshaped({weights.dim(0), weights.dim(1), 1, 1}) : weights;
}

// True if both are the same memory, read in the same way.
bool is_same(const Tensor& a, const Tensor& b) {
  return a.same_storage(b) && a.raw() == b.raw() && a.shape() == b.shape() && a.dtype() == b.dtype() &&
         a.is_fixed_point() == b.is_fixed_point() &&
         (!a.is_fixed_point() || a.fixed_point() == b.fixed_point());
}

}  // namespace

PackedWeights::PackedWeights(Tensor weights)
    : values_(std::move(weights)), forms_(std::make_shared<WeightForms>(as_filter(values_))) {}

PackedWeights::PackedWeights(Tensor values, std::shared_ptr<WeightForms> forms)
    : values_(std::move(values)), forms_(std::move(forms)) {}

const Shape& PackedWeights::filter_shape() const { return forms().shape(); }

PackedWeights PackedWeights::as(DType wanted) const {
  if (wanted == dtype()) return *this;
  auto converted = forms().converted(wanted);
  Tensor values = converted->weights().reshaped(shape());
  return {std::move(values), std::move(converted)};
}

WeightPacker& WeightPacker::operator=(const WeightPacker& other) {
  if (this == &other) return *this;
  const std::lock_guard lock(mutex_);
  weights_ = {};
  kept_ = {};
  return *this;
}

PackedWeights WeightPacker::operator()(const Tensor& weights) const {
  const std::lock_guard lock(mutex_);
  const bool is_known = weights_ && version_ == weights.version() && is_same(weights_, weights);
  const bool is_kept = is_known || is_reused_;  // this version, or the last one, was requested again
  is_reused_ = is_known;
  if (is_known) {
    if (auto forms = forms_.lock()) return kept_ = PackedWeights(weights, std::move(forms));
  }
  kept_ = {};  // frees the old forms before the new ones are made
  PackedWeights packed(weights);
  weights_ = weights;
  version_ = weights.version();
  forms_ = packed.forms_;
  if (is_kept) kept_ = packed;
  return packed;
}

void WeightPacker::release() const {
  const std::lock_guard lock(mutex_);
  weights_ = {};
  kept_ = {};
  is_reused_ = false;
}

}  // namespace faq::kernels
