// Connects signals to a StopToken. Programs install it, the library never does.
#pragma once

#include "train/stop_token.h"

namespace faq {

/// After this call SIGTERM, SIGINT and SIGUSR1 request a stop of the returned token instead of ending the
/// process. A process has one such token; every call returns it.
StopToken install_stop_handlers();

}  // namespace faq
