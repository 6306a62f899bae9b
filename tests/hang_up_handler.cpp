// Preloaded: a library that handles hang-ups from when it is loaded.
#include <signal.h>

namespace {

void handle(int) {}

[[gnu::constructor]] void install() { ::signal(SIGHUP, handle); }

}  // namespace
