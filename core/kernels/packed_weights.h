// Weights in the forms that kernels need. The owner of the weights owns them.
#pragma once

#include <memory>
#include <mutex>

#include "core/kernels/conv_geometry.h"
#include "core/reused.h"
#include "core/tensor.h"

namespace faq::kernels {

class WeightForms;

/// A handle on weights and on all forms that kernels make of them (layouts for oneDNN, exact addends, other
/// dtypes). Each form is made once, when it is first needed, by whatever thread needs it. Thread-safe. A
/// kernel that gets a bare tensor packs it for that one call. To use weights several times, keep this handle
/// or a WeightPacker.
///
/// Precondition: the weights are not written to while the handle is in use.
class PackedWeights {
 public:
  PackedWeights() = default;  ///< none
  /// Convolution weights, or a matrix O,I, which means O,I,1,1. s8, f32 or bf16. `channel_scales`: O, f32;
  /// integers of output channel o stand for integer × scale × channel_scales[o]. Undefined: all are 1.
  PackedWeights(Tensor weights, Tensor channel_scales = {});

  explicit operator bool() const { return values_.defined(); }
  const Tensor& values() const { return values_; }
  const Shape& shape() const { return values_.shape(); }
  /// The shape as O,I/G,H,W.
  const Shape& filter_shape() const;
  DType dtype() const { return values_.dtype(); }
  const Tensor& channel_scales() const;
  /// What an integer of each output channel stands for: O, f32. For integers with a scale.
  Tensor scales() const;
  /// Returns the weights in another dtype (integers multiplied by their scales). Returns itself for its own
  /// dtype; other dtypes are converted once.
  PackedWeights as(DType dtype) const;
  /// Returns s8 integers in f32 or bf16, which both hold them exactly, not multiplied by their scales.
  PackedWeights integers_as(DType dtype) const;
  /// Returns weights O,I,H,W as O,I·H·W,1,1, for images that a filter covers (covers_image()), flattened.
  PackedWeights as_matrix() const;

  /// The same weights for the backward pass, with forms of their own: whoever holds those alone does not keep
  /// the layouts of the forward pass.
  PackedWeights backward() const;

  /// Makes the layouts that kernels have wanted of such weights before, on all threads. To be called where
  /// several threads are about to need them: else the first of them makes a layout alone, and the others
  /// wait. images, groups: of the convolution; its images may be gradients.
  void prepare(DType images, int groups) const;

  /// For kernels only.
  WeightForms& forms() const {
    check(forms_ != nullptr, "packed weights: none (default-constructed)");
    return *forms_;
  }

 private:
  friend class WeightPacker;
  PackedWeights(Tensor values, std::shared_ptr<WeightForms> forms,
                std::shared_ptr<WeightForms> backward_forms = nullptr);

  Tensor values_;
  std::shared_ptr<WeightForms> forms_;
  std::shared_ptr<WeightForms> backward_forms_;  ///< null: forms_
};

/// Packs weights once for each version of them. The owner of weights that may be written to keeps a
/// WeightPacker. Thread-safe. A copy starts empty.
///
/// Memory: packed weights are kept from the second request for a version on (core/reused.h).
class WeightPacker {
 public:
  WeightPacker() = default;
  WeightPacker(const WeightPacker&) {}
  WeightPacker& operator=(const WeightPacker&);

  /// Returns the packed weights of the last call, if these are the same weights with the same version.
  /// Otherwise packs them.
  PackedWeights operator()(const Tensor& weights) const;
  /// Drops everything it keeps.
  void release() const;

 private:
  struct Version {
    Tensor weights;
    std::uint64_t number = 0;
    bool operator==(const Version& other) const;
  };
  mutable std::mutex mutex_;
  mutable Reused<Version, WeightForms> forms_;
};

}  // namespace faq::kernels
