// A signal to stop before a run has begun: part of faq-train alone, because what it does is to end with the
// exit code that says "run me again".
#include <unistd.h>

#include <cstring>

#include "core/error.h"
#include "train/signals.h"

namespace {

// Nothing has been written yet, so nothing is to be saved. Until install_stop_handlers() takes over.
void stop_before_run(int) {
  static constexpr char text[] =
      "faq-train: stopped by a signal before the first step; nothing is lost, run the same command again\n";
  [[maybe_unused]] const auto said = ::write(STDERR_FILENO, text, std::strlen(text));
  ::_exit(static_cast<int>(faq::ErrorKind::stopped));
}

void install(int, char**, char**) { faq::handle_stop_signals(stop_before_run); }

#if FAQ_SANITIZED
// A sanitizer's library comes first.
[[gnu::constructor(101)]] void install_after_sanitizer() { install(0, nullptr, nullptr); }
#else
// The loader calls these functions of a program before the constructors of its libraries, which take most of
// the time until main.
[[gnu::section(".preinit_array"), gnu::used]] void (*const before_constructors)(int, char**,
                                                                                char**) = install;
#endif

}  // namespace
