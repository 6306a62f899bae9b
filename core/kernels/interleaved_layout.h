// Layouts of s8 weights in which four inputs of an output are neighbours, as the integer kernels of oneDNN
// read them. For filters of one tap oneDNN's own copies are slower, and it cannot flip (faq-kernel-bench,
// pack_weights). Included by core/kernels/*.cpp and the benchmarks only.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "core/division.h"
#include "core/kernels/conv_geometry.h"
#include "core/kernels/onednn.h"

namespace faq::kernels {

/// s8 weights where they lie, without groups: that of output o, input i and tap t is
/// data[o·output_step + i·input_step + taps[t]].
struct FilterView {
  const std::int8_t* data;
  std::int64_t outputs, inputs;
  std::int64_t output_step, input_step;
  std::vector<std::int64_t> taps;

  /// True unless the weights of each output have one and the same sum.
  bool have_different_sums() const;
};

/// Weights O,I,H,W.
FilterView plain_filters(const Tensor& weights);
/// The same as I,O,H,W, with the taps from `first` on, every stride-th, in reverse order: what the gradient
/// of the data is convolved with.
FilterView flipped_filters(const Tensor& weights, Extent first, int stride);

/// A layout in which an output's four inputs are a unit; units of neighbouring outputs lie side by side, for
/// one tap.
class InterleavedLayout {
 public:
  /// Returns nothing for layouts of another kind, and for weights whose inputs do not fill it.
  static std::optional<InterleavedLayout> of(const dnnl::memory::desc& layout, const Shape& weights);

  /// Writes the layout into a buffer() of it: the weights, and where it has them −128·Σw of each output,
  /// which kernels for signed images add.
  void pack(const FilterView& filters, Tensor& to) const;
  /// True if two such memories hold the same.
  bool are_equal(const Tensor& a, const Tensor& b) const;

 private:
  enum class Taps;

  InterleavedLayout() = default;
  static Taps kind_of(const FilterView& filters);
  std::int64_t groups() const { return divided_up(outputs_, group_size_); }
  /// Bytes in front of the unit of a group's first output.
  std::int64_t place(std::int64_t group, std::int64_t unit) const {
    return group * group_step_ + unit / units_together_ * step_ + unit % units_together_ * 4 * group_size_;
  }
  void pack_units(const FilterView& filters, Taps taps, std::int64_t group, std::int64_t first,
                  std::int64_t last, std::int8_t* to) const;
  void write_sums(const FilterView& filters, std::int32_t* sums) const;

  std::int64_t outputs_, inputs_;
  std::int64_t group_size_;         ///< outputs side by side
  std::int64_t group_step_;         ///< bytes from a group to the next one
  std::int64_t units_together_;     ///< of a group's inputs, one behind the other
  std::int64_t step_;               ///< bytes from so many units to the next ones
  std::vector<std::int64_t> taps_;  ///< bytes from the first tap to each
  std::int64_t weight_bytes_;       ///< padding of outputs included
  bool has_sums_;
};

}  // namespace faq::kernels
