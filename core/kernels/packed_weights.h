// Weights as kernels want them, owned by whoever owns the weights.
#pragma once

#include <memory>
#include <mutex>

#include "core/tensor.h"

namespace faq::kernels {

class WeightForms;

/// A handle on weights and on all that kernels make of them (layouts for oneDNN, exact addends, other
/// dtypes): each is made when it is first needed, once, and by whatever thread. A kernel that is given a bare
/// tensor packs it for that one call; who uses weights several times keeps this, or a WeightPacker.
///
/// Precondition: the weights are not written to while this is in use.
class PackedWeights {
 public:
  PackedWeights() = default;  ///< none
  /// Convolution weights, or a matrix O,I, which is the same as O,I,1,1. s8, f32 or bf16.
  PackedWeights(Tensor weights);

  explicit operator bool() const { return values_.defined(); }
  const Tensor& values() const { return values_; }
  const Shape& shape() const { return values_.shape(); }
  /// O,I/G,H,W.
  const Shape& filter_shape() const;
  DType dtype() const { return values_.dtype(); }
  /// The numbers the weights stand for: themselves in their own dtype, else converted, once.
  PackedWeights as(DType dtype) const;

  /// For kernels.
  WeightForms& forms() const {
    check(forms_ != nullptr, "packed weights: none (default-constructed)");
    return *forms_;
  }

 private:
  friend class WeightPacker;
  PackedWeights(Tensor values, std::shared_ptr<WeightForms> forms);

  Tensor values_;
  std::shared_ptr<WeightForms> forms_;
};

/// Packs weights once for each version of them. Whoever owns weights that may be written to keeps one; any
/// thread may ask. A copy of it has packed nothing yet.
///
/// Memory: what is asked for once for each version, as in training without accumulation, lives as long as who
/// asked holds it. What is asked for again is kept, and so are later versions.
class WeightPacker {
 public:
  WeightPacker() = default;
  WeightPacker(const WeightPacker&) {}
  WeightPacker& operator=(const WeightPacker&);

  /// What it made of these weights the last time, if they are the same and as they were.
  PackedWeights operator()(const Tensor& weights) const;
  /// Keeps nothing any more.
  void release() const;

 private:
  mutable std::mutex mutex_;
  mutable Tensor weights_;  ///< asked for the last time
  mutable std::uint64_t version_ = 0;
  mutable std::weak_ptr<WeightForms> forms_;
  mutable bool is_reused_ = false;
  mutable PackedWeights kept_;
};

}  // namespace faq::kernels
