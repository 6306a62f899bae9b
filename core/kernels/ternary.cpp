#include "core/kernels/ternary.h"

#include <cmath>
#include <functional>
#include <limits>

#include "core/kernels/groups.h"

namespace faq::kernels {

// I: the t largest magnitudes, the support. S₁, S₂: the sums of them and of their squares. Then
//   Σ (w − α·sign(w)·[w ∈ I])² = Σ w² − 2·α·S₁ + α²·t.
// So one pass over the sorted magnitudes tries every threshold.
std::vector<TernaryGroup> ternary_groups(const Tensor& x, std::int64_t length, TernaryScale form) {
  return for_each_group<TernaryGroup>(x, length, [form](const float* values, std::int64_t n) {
    thread_local std::vector<float> sorted;
    sorted.resize(static_cast<std::size_t>(n));
    // NaN has no place in an order, so it counts as 0 (the run is about to stop because of it).
    for (std::int64_t i = 0; i < n; ++i) sorted[i] = std::isnan(values[i]) ? 0.0f : std::abs(values[i]);
    std::ranges::sort(sorted, std::greater());
    TernaryGroup best;
    double smallest = 0;  // of −2·α·S₁ + α²·t; 0 for an empty support
    double sum = 0, squares = 0;
    for (std::int64_t i = 0; i < n && sorted[i] > 0; ++i) {
      const double magnitude = sorted[i];
      sum += magnitude;
      squares += magnitude * magnitude;
      const float next = i + 1 < n ? sorted[i + 1] : 0.0f;
      if (next == sorted[i]) continue;  // no threshold between equals
      const auto count = static_cast<double>(i + 1);
      const double scale = form == TernaryScale::rms ? std::sqrt(squares / count) : sum / count;
      const double error = -2 * scale * sum + scale * scale * count;
      if (error < smallest) {
        smallest = error;
        best = {static_cast<float>(scale), next};
      }
    }
    return best;
  });
}

}  // namespace faq::kernels
