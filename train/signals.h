// The bridge from signals to a StopToken; programs install it, the library never does.
#pragma once

#include "train/stop_token.h"

namespace faq {

/// From now on SIGTERM, SIGINT and SIGUSR1 request a stop of the token that is returned, instead of ending
/// the process. A process has one such token, whoever asks for it.
StopToken install_stop_handlers();

}  // namespace faq
