// Notes on the tape of an eval-mode forward which integer op made a value.
#pragma once

#include <memory>

#include "core/var.h"
#include "quant/deploy/integer_op.h"

namespace faq {

struct RecordedOp final : OpInfo {
  explicit RecordedOp(std::shared_ptr<const IntegerOp> executed) : op(std::move(executed)) {}
  std::shared_ptr<const IntegerOp> op;
};

/// Returns the integer op that made `var`, or null when no integer op made it.
inline std::shared_ptr<const IntegerOp> integer_op_of(const Var& var) {
  const auto* recorded = dynamic_cast<const RecordedOp*>(var.info().get());
  return recorded ? recorded->op : nullptr;
}

}  // namespace faq
