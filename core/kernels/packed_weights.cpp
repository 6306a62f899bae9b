#include "core/kernels/packed_weights.h"

#include <algorithm>
#include <functional>

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

PackedWeights::PackedWeights(Tensor weights, Tensor channel_scales)
    : values_(std::move(weights)),
      forms_(std::make_shared<WeightForms>(as_filter(values_), channel_scales)),
      backward_forms_(std::make_shared<WeightForms>(as_filter(values_), std::move(channel_scales))) {
  const Tensor& scales = forms_->channel_scales();
  check(!scales || scales.numel() == values_.dim(0), "packed weights: ", scales.numel(),
        " channel scales for ", values_.shape());
}

PackedWeights::PackedWeights(Tensor values, std::shared_ptr<WeightForms> forms,
                             std::shared_ptr<WeightForms> backward_forms)
    : values_(std::move(values)), forms_(std::move(forms)), backward_forms_(std::move(backward_forms)) {}

const Shape& PackedWeights::filter_shape() const { return forms().shape(); }

const Tensor& PackedWeights::channel_scales() const { return forms().channel_scales(); }

Tensor PackedWeights::scales() const {
  Tensor scales = Tensor::full({values_.dim(0)}, values_.fixed_point().scale);
  if (!channel_scales()) return scales;
  std::ranges::transform(scales.span<float>(), channel_scales().span<float>(), scales.mutable_data<float>(),
                         std::multiplies{});
  return scales;
}

PackedWeights PackedWeights::integers_as(DType wanted) const {
  check(dtype() == DType::s8, "packed weights: expected integers, got ", dtype());
  auto integers = forms().integers_as(wanted);
  Tensor values = integers->weights().reshaped(shape());
  return {std::move(values), std::move(integers)};
}

PackedWeights PackedWeights::backward() const {
  return backward_forms_ ? PackedWeights(values_, backward_forms_) : *this;
}

PackedWeights PackedWeights::as_matrix() const {
  auto matrix = forms().as_matrix();
  Tensor values = matrix->weights();
  return {std::move(values), std::move(matrix), backward_forms_ ? backward_forms_->as_matrix() : nullptr};
}

void PackedWeights::prepare(DType images, int groups) const { forms().prepare(images, groups); }

PackedWeights PackedWeights::as(DType wanted) const {
  if (wanted == dtype()) return *this;
  auto converted = forms().converted(wanted);
  Tensor values = converted->weights().reshaped(shape());
  return {std::move(values), std::move(converted)};
}

bool WeightPacker::Version::operator==(const Version& other) const {
  return number == other.number && is_same(weights, other.weights);
}

WeightPacker& WeightPacker::operator=(const WeightPacker& other) {
  if (this != &other) release();
  return *this;
}

PackedWeights WeightPacker::operator()(const Tensor& weights) const {
  const std::lock_guard lock(mutex_);
  auto forms = forms_.get(Version{weights, weights.version()},
                          [&] { return std::make_shared<WeightForms>(as_filter(weights)); });
  return {weights, std::move(forms)};
}

void WeightPacker::release() const {
  const std::lock_guard lock(mutex_);
  forms_.release();
}

}  // namespace faq::kernels
