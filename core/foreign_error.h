// Errors of the standard library and of other libraries, as ours.
#pragma once

#include <exception>

#include "core/error.h"

namespace faq {

/// Returns the Error that says the same: of an Error itself, of memory that is not there, of the system (too
/// few descriptors or threads, a folder that cannot be listed), of JSON that has another form than code
/// expects. What is left is a bug: `internal`.
Error as_error(const std::exception& exception);

}  // namespace faq
