#include "tools/waiting.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "tools/hang_up.h"
#include "train/signals.h"

namespace faq::cli {
namespace {

// Set by hand, they say how to wait; set here, that it has been said: the second start does not start a
// third. The last ones bind threads to CPUs: libgomp has bound this thread before main, and started once more
// the program would see no other CPU.
constexpr const char* said_by[] = {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME",
                                   "OMP_PROC_BIND",   "OMP_PLACES",     "GOMP_CPU_AFFINITY"};

// Some 0.1 ms: longer than threads that have a core each wait for one another, far shorter than the
// milliseconds that one waits for a core other processes use. docs/performance.md has what was measured.
constexpr const char* spin_count = "3000";

}  // namespace

void bound_waiting(char** argv) {
  if (std::ranges::any_of(said_by, [](const char* name) { return std::getenv(name) != nullptr; })) return;
  std::error_code error;
  // By its own name, or the process would be called "exe".
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) return;
  ::setenv("GOMP_SPINCOUNT", spin_count, 1);
  ::setenv("KMP_BLOCKTIME", "1", 1);
  // A signal to stop that comes while the new image starts waits until it has its handlers, if this one has.
  struct sigaction handler = {};
  const bool handled = ::sigaction(SIGTERM, nullptr, &handler) == 0 && handler.sa_handler != SIG_DFL;
  sigset_t before;
  ::sigprocmask(SIG_BLOCK, nullptr, &before);
  if (handled) hold_stop_signals();
  keep_hang_ups_ignored();  // of a handler the new image would know nothing
  ::execv(program.c_str(), argv);
  ::sigprocmask(SIG_SETMASK, &before, nullptr);
  ::unsetenv("GOMP_SPINCOUNT");
  ::unsetenv("KMP_BLOCKTIME");
}

}  // namespace faq::cli
