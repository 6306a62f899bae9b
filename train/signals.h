// SIGTERM, SIGINT and SIGUSR1 ask a run to save and stop; the handler only sets a flag.
#pragma once

namespace faq {

void install_stop_handlers();
bool stop_requested();

}  // namespace faq
