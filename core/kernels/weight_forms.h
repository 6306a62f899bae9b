// The forms that kernels make of weights, each made once. Included by core/kernels/*.cpp only.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "core/kernels/byte_weights.h"
#include "core/kernels/onednn.h"

namespace faq::kernels {

/// The forms of weights that no longer change: O,I/G,H,W, s8, f32 or bf16. Thread-safe, because images may
/// run through one network in several threads.
class WeightForms {
 public:
  /// `are_whole`: false for parts of weights, and for what only tests a kernel: prepare() knows nothing of
  /// their layouts.
  explicit WeightForms(Tensor weights, Tensor channel_scales = {}, bool are_whole = true)
      : shape_(weights.shape()),
        dtype_(weights.dtype()),
        channel_scales_(std::move(channel_scales)),
        are_whole_(are_whole),
        weights_(std::move(weights)) {}
  /// What flipped() returns, of s8 weights O,I,H,W.
  WeightForms(Tensor weights, Extent first, int stride);

  const Tensor& weights() const;
  /// O, f32: see PackedWeights; undefined: none.
  const Tensor& channel_scales() const { return channel_scales_; }
  const Shape& shape() const { return shape_; }
  DType dtype() const { return dtype_; }

  /// Returns the weights in a layout of oneDNN, for a convolution with images (or gradients) of this dtype.
  Tensor layout(const dnnl::memory::desc& wanted, DType images, int groups);
  /// See PackedWeights::prepare().
  void prepare(DType images, int groups);
  /// For s8 weights, see exact_addends(): the number of addends, and the addends.
  int exact_parts(int max_input, int max_magnitude);
  std::vector<std::shared_ptr<WeightForms>> addends(int max_input, int max_magnitude);
  /// For s8 weights, see exact_addends.h.
  std::int64_t largest_window_sum();
  /// For s8 weights: −128·Σ w per output channel, s32, for inputs that are shifted by 128.
  Tensor shift_correction();
  /// The integers of s8 weights in f32 or bf16, without their scales.
  std::shared_ptr<WeightForms> integers_as(DType dtype);
  /// The weights in another dtype; integers are multiplied by their scales.
  std::shared_ptr<WeightForms> converted(DType dtype);
  /// Returns s8 weights without groups as the gradient of the data is convolved with: I,O,H,W, the taps from
  /// `first` on, every stride-th, in reverse order. They have no channel scales. Where a kernel's layout can
  /// be made of the weights themselves, nothing else is.
  std::shared_ptr<WeightForms> flipped(Extent first, int stride);
  /// See PackedWeights::as_matrix().
  std::shared_ptr<WeightForms> as_matrix();
  /// s8 weights without groups as tiles of bytes read them: see ByteWeights.
  std::shared_ptr<const ByteWeights> for_tiles(std::int64_t lines);

 private:
  /// What flipped weights are made of.
  struct Flip {
    Tensor weights;
    Extent first;
    int stride;
  };
  struct Layout {
    dnnl::memory::desc desc;
    Tensor storage;
  };
  struct Addends {
    int max_input;
    int max_magnitude;
    int parts;                                                        ///< 1: the weights need no splitting
    std::vector<std::shared_ptr<WeightForms>> parts_of_weights = {};  ///< filled when first needed
  };
  struct ForTiles {
    std::int64_t lines;
    std::shared_ptr<const ByteWeights> weights;
  };
  // Precondition of both: the lock is held.
  Addends& addends_entry(int max_input, int max_magnitude);
  bool write_interleaved(const dnnl::memory::desc& wanted, Tensor& storage) const;

  const Shape shape_;
  const DType dtype_;
  const Tensor channel_scales_;
  const bool are_whole_;
  const std::optional<Flip> flip_;
  mutable std::once_flag flip_once_;
  mutable Tensor weights_;  ///< flipped ones: once they are asked for
  std::mutex mutex_;        ///< protects the members below
  std::vector<Layout> layouts_;
  std::vector<Addends> addends_;
  std::int64_t largest_window_sum_ = -1;  ///< −1: not known
  Tensor shift_correction_;
  std::vector<std::shared_ptr<WeightForms>> integers_, converted_;
  std::vector<std::shared_ptr<WeightForms>> flipped_;
  std::shared_ptr<WeightForms> matrix_;
  std::vector<ForTiles> for_tiles_;
};

}  // namespace faq::kernels
