// Where the sums of tiles belong among the weights of a convolution. Included by core/kernels only.
#pragma once

#include <cstdint>
#include <vector>

#include "core/kernels/quad_plan.h"
#include "core/tensor.h"

namespace faq::kernels {

/// Writes the sums of a plan's tiles as the gradient of the weights, O,I,H,W.
class TilePlaces {
 public:
  /// `factors`: what the gradient is multiplied by, for each output channel; undefined: 1.
  TilePlaces(const QuadPlan& plan, Tensor factors);

  /// `sums`: of the tiles of a cell, one after the other, outputs × vectors × 16 each. A thread calls
  /// end_streamed() (streamed.h) when it has written its last cell.
  void place(std::int64_t block, std::int64_t output_block, const float* sums, float* dw) const;
  /// `sums`: of all tiles. In all threads.
  Tensor placed(const float* sums) const;

 private:
  QuadPlan plan_;
  Tensor factors_;
  /// Of a cell, for each weight of an output, in their order: where its sum is. Of whole blocks of channels,
  /// and of the last one.
  std::vector<std::int32_t> whole_, last_;
};

}  // namespace faq::kernels
