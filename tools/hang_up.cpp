#include "tools/hang_up.h"

#include <signal.h>

namespace faq::cli {
namespace {

bool ignored_at_start = false;

void look(int, char**, char**) {
  struct sigaction found = {};
  ignored_at_start = ::sigaction(SIGHUP, nullptr, &found) == 0 && found.sa_handler == SIG_IGN;
}

#if FAQ_SANITIZED
// A sanitizer's library comes first.
[[gnu::constructor(101)]] void look_after_sanitizer() { look(0, nullptr, nullptr); }
#else
// Before the constructors of libraries.
[[gnu::section(".preinit_array"), gnu::used]] void (*const before_constructors)(int, char**, char**) = look;
#endif

}  // namespace

void keep_hang_ups_ignored() {
  if (ignored_at_start) ::signal(SIGHUP, SIG_IGN);
}

}  // namespace faq::cli
