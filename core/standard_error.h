// The standard error stream. It may be closed, full, or a pipe that nobody reads; a run must go on.
#pragma once

#include <string_view>

namespace faq {

/// Writes what can be written. Ignores failures.
void write_to_stderr(std::string_view text) noexcept;

}  // namespace faq
