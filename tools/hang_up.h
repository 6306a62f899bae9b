// nohup: a process that was started with hang-ups ignored goes on ignoring them.
#pragma once

namespace faq::cli {

/// Ignores hang-ups again if they were ignored when the process started. A library that was loaded since may
/// have a handler of its own for them: UCX, which Open MPI 5 loads, has one for its debugging.
void keep_hang_ups_ignored();

}  // namespace faq::cli
