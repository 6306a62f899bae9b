// Groups of consecutive elements within the rows of a tensor.
#pragma once

#include <algorithm>
#include <vector>

#include "core/division.h"
#include "core/parallel.h"
#include "core/tensor.h"

namespace faq::kernels {

/// The number of groups of `length` in a row of `row_length`. The last group may be shorter.
inline std::int64_t groups_in(std::int64_t row_length, std::int64_t length) {
  return divided_up(row_length, length);
}

/// Calls body(values, n) for every group of an f32 tensor, in parallel. Returns the results, row after row.
template <class Result, class Body>
std::vector<Result> for_each_group(const Tensor& x, std::int64_t length, Body body) {
  const std::int64_t rows = x.dim(0), row_length = rows == 0 ? 0 : x.numel() / rows;
  const std::int64_t groups = groups_in(row_length, length);
  std::vector<Result> results(static_cast<std::size_t>(rows * groups));
  parallel_for(rows, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      for (std::int64_t g = 0; g < groups; ++g)
        results[row * groups + g] =
            body(x.data<float>() + row * row_length + g * length, std::min(length, row_length - g * length));
    }
  });
  return results;
}

}  // namespace faq::kernels
