// What kernels make of weights, each once. Included by core/kernels/*.cpp only.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "core/kernels/onednn.h"

namespace faq::kernels {

/// Of weights that do not change any more: O,I/G,H,W, s8, f32 or bf16. Images may run through one network in
/// several threads: any thread may ask.
class WeightForms {
 public:
  explicit WeightForms(Tensor weights) : weights_(std::move(weights)) {}

  const Tensor& weights() const { return weights_; }
  const Shape& shape() const { return weights_.shape(); }
  DType dtype() const { return weights_.dtype(); }

  /// In the layout oneDNN wants. The memory is good for as long as this object lives.
  dnnl::memory layout(const dnnl::memory::desc& wanted, int groups);
  /// Of s8 weights, see exact_addends(): their number, and the addends themselves.
  int exact_parts(int max_input, int max_magnitude);
  std::vector<std::shared_ptr<WeightForms>> addends(int max_input, int max_magnitude);
  /// Of s8 weights: −128·Σ w per output channel, s32, for inputs shifted by 128.
  Tensor shift_correction();
  /// The bare integers of s8 weights as f32.
  std::shared_ptr<WeightForms> integers_as_f32();
  /// The numbers the weights stand for, in another dtype than theirs.
  std::shared_ptr<WeightForms> converted(DType dtype);

 private:
  struct Layout {
    dnnl::memory::desc desc;
    Tensor storage;
  };
  struct Addends {
    int max_input;
    int max_magnitude;
    int parts;                                                        ///< 1: the weights need no splitting
    std::vector<std::shared_ptr<WeightForms>> parts_of_weights = {};  ///< once they were needed
  };
  // Precondition of both: the lock is held.
  Addends& addends_entry(int max_input, int max_magnitude);

  const Tensor weights_;
  std::mutex mutex_;  ///< of what follows
  std::vector<Layout> layouts_;
  std::vector<Addends> addends_;
  Tensor shift_correction_;
  std::shared_ptr<WeightForms> integers_as_f32_;
  std::vector<std::shared_ptr<WeightForms>> converted_;
};

}  // namespace faq::kernels
