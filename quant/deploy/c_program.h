// The ops of an integer network as C: a table for each, and a call of the function of its kind.
#pragma once

#include <cstdint>
#include <set>
#include <string>

#include "quant/deploy/integer_network.h"

namespace faq {

struct CProgram {
  std::string tables;           ///< definitions of constants
  std::string calls;            ///< one after the other, they make `logits` of `image`
  std::set<std::string> kinds;  ///< of the functions that are called: files of quant/deploy/c need them
  bool has_literals = false;    ///< tables that are string literals
  std::int64_t constant_bytes = 0, arena_bytes = 0;
  float scale_of_logits = 0;
};

/// `table_mark`: what arrays are declared with (CTables). Throws usage for an op, a size or a multiplier that
/// has no place in C.
CProgram c_program(const IntegerNetwork& network, const std::string& table_mark);

}  // namespace faq
