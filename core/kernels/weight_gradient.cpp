#include "core/kernels/weight_gradient.h"

#include <algorithm>
#include <optional>

#include "core/kernels/conv_observer.h"
#include "core/kernels/conv_primitives.h"
#include "core/kernels/depthwise_gradient.h"
#include "core/kernels/elementwise.h"
#include "core/kernels/paired_gradient.h"
#include "core/kernels/tiled_gradient.h"

namespace faq::kernels {
namespace {

template <class Gradient>
void add_to(std::optional<Gradient>& total, std::optional<Gradient>& part) {
  if (total && part) {
    total->add(*part);
  } else if (part) {
    total = std::move(part);
  }
}

}  // namespace

Tensor conv2d_backward_weights(const Tensor& x, const Tensor& dy, const Shape& weights,
                               const ConvGeometry& geometry) {
  WeightGradient gradient(weights, geometry, 1);
  gradient.add(x, dy, 0);
  return gradient.sum();
}

// oneDNN may choose different layouts for parts of different length.
struct WeightGradient::Share {
  std::optional<DepthwiseGradient> depthwise;
  std::optional<PairedGradient> paired;
  std::optional<TiledGradient> tiled;
  std::vector<onednn::Packed> sums;

  void add(onednn::Packed part) {
    const auto same = std::ranges::find_if(sums, [&](const auto& sum) { return sum.desc == part.desc; });
    if (same == sums.end()) {
      sums.push_back(std::move(part));
    } else {
      add_in_place(same->storage, part.storage);
    }
  }
};

WeightGradient::WeightGradient(const Shape& weights, const ConvGeometry& geometry, int shares)
    : weights_(weights), geometry_(geometry), shares_(shares) {}

WeightGradient::~WeightGradient() = default;

void WeightGradient::add(const Tensor& x, const Tensor& dy, int share) {
  const bool is_integer = x.dtype() == DType::u8 || x.dtype() == DType::s8;
  check((dy.dtype() == DType::f32 || dy.dtype() == DType::bf16) && (is_integer || x.dtype() == dy.dtype()),
        "conv2d backward: input ", x.dtype(), ", gradient ", dy.dtype());
  check(dy.shape() == conv2d_shape(x.shape(), weights_, geometry_), "conv2d backward: gradient ", dy.shape(),
        " for an input of ", x.shape());
  const bool is_depthwise = DepthwiseGradient::suits(weights_, geometry_);
  const bool is_paired = PairedGradient::suits(weights_, geometry_, x.dtype(), dy.dtype());
  const bool is_tiled = TiledGradient::suits(x.shape(), weights_, geometry_, x.dtype(), dy.dtype());
  const bool is_converted = is_integer && !is_depthwise && !is_paired && !is_tiled;
  const Tensor operand = is_converted ? convert_unscaled(x, dy.dtype()) : x;
  report({ConvPass::backward_weights, x.shape(), weights_, dy.shape(), geometry_, operand.dtype(), DType::f32,
          dy.dtype()});
  Share& sums = shares_.at(share);
  if (is_depthwise) {
    if (!sums.depthwise) sums.depthwise.emplace(weights_, geometry_);
    sums.depthwise->add(operand, dy);
  } else if (is_paired) {
    if (!sums.paired) sums.paired.emplace(weights_, geometry_);
    sums.paired->add(operand, dy);
  } else if (is_tiled) {
    if (!sums.tiled) sums.tiled.emplace(weights_, geometry_);
    sums.tiled->add(operand, dy);
  } else {
    sums.add(onednn::convolve_backward_weights(operand, dy, weights_, geometry_));
  }
}

Tensor WeightGradient::sum() {
  Share total;
  for (Share& share : shares_) {
    add_to(total.depthwise, share.depthwise);
    add_to(total.paired, share.paired);
    add_to(total.tiled, share.tiled);
    for (onednn::Packed& part : share.sums) total.add(std::move(part));
  }
  if (total.depthwise) return total.depthwise->sum();
  Tensor dw = total.paired ? total.paired->sum() : total.tiled ? total.tiled->sum() : Tensor();
  for (const onednn::Packed& part : total.sums) {
    const Tensor more = onednn::unpacked(part, weights_, geometry_.groups);
    if (dw) {
      add_in_place(dw, more);
    } else {
      dw = more;
    }
  }
  check(static_cast<bool>(dw), ErrorKind::internal, "conv2d backward: gradient of no images");
  return dw;
}

}  // namespace faq::kernels
