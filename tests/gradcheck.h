// Numeric check of an operation's gradient.
#pragma once

#include <functional>
#include <vector>

#include "core/var.h"

namespace faq {

struct GradcheckOptions {
  double eps =
      1e-2;  ///< step of the central differences; f32 rounding divided by it must stay below the tolerance
  double tolerance = 2e-3;    ///< of the largest gradient of each input
  double away_from_zero = 0;  ///< the smallest magnitude of an input, for operations with a kink at zero
  std::vector<double> scales = {};  ///< of each input; missing ones are 1
};

/// Compares backward() of a random projection of op(inputs) with central differences, for every element of
/// every input. Inputs are distinct values on an even grid in ±scale in random order: no two are closer than
/// 2·scale/(number of elements).
void gradcheck(const std::function<Var(const std::vector<Var>&)>& op, const std::vector<Shape>& shapes,
               const GradcheckOptions& options = {});

}  // namespace faq
