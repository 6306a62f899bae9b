// The standard error stream: it may be closed, full, or a pipe that nobody reads, and a run goes on.
#pragma once

#include <string_view>

namespace faq {

/// Writes what can be written.
void write_to_stderr(std::string_view text) noexcept;

}  // namespace faq
