// oneDNN's kernels that compute other sums than they should, or touch memory that is not theirs. Which
// geometries they do it for was found by tools/campaigns/convolutions.py.
#pragma once

#include <algorithm>
#include <span>
#include <string_view>

#include "core/error.h"
#include "core/kernels/conv_problem.h"

namespace faq::kernels::onednn {

/// A kernel that must not be used for some problems.
struct Fault {
  const char* kernel;  ///< stands in oneDNN's names of it
  bool (*concerns)(const ConvProblem&);
};

std::span<const Fault> forward_faults();
std::span<const Fault> backward_data_faults();
std::span<const Fault> backward_weights_faults();

/// The first kernel that has none of the faults.
template <class Desc>
Desc without(std::span<const Fault> faults, Desc desc, const ConvProblem& problem) {
  const auto is_wrong = [&](std::string_view kernel) {
    return std::ranges::any_of(faults, [&](const Fault& fault) {
      return kernel.find(fault.kernel) != std::string_view::npos && fault.concerns(problem);
    });
  };
  while (is_wrong(desc.impl_info_str()))
    check(desc.next_impl(), ErrorKind::internal, "conv2d: no other kernel for ", problem.geometry);
  return desc;
}

}  // namespace faq::kernels::onednn
