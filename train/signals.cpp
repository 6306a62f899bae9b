#include "train/signals.h"

#include <pthread.h>

namespace faq {
namespace {

constexpr int signals[] = {SIGTERM, SIGINT,  SIGUSR1, SIGUSR2,   SIGHUP,
                           SIGXCPU, SIGQUIT, SIGALRM, SIGVTALRM, SIGPWR};

// Created before a handler can need it. Never destroyed, because a signal may come while the process exits.
const StopToken* process_token = nullptr;

void on_signal(int) { process_token->request_stop(); }

}  // namespace

sigset_t stop_signals() {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : signals) sigaddset(&set, signal);
  return set;
}

void handle_stop_signals(void (*handler)(int)) {
  struct sigaction action = {};
  action.sa_handler = handler;
  action.sa_flags = SA_RESTART;
  for (const int signal : signals) {
    struct sigaction before = {};
    const bool stays =
        signal == SIGHUP && sigaction(signal, nullptr, &before) == 0 && before.sa_handler == SIG_IGN;
    if (!stays) sigaction(signal, &action, nullptr);
  }
  const sigset_t set = stop_signals();
  pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
}

void hold_stop_signals() {
  const sigset_t set = stop_signals();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
}

StopToken install_stop_handlers() {
  static const StopToken* const token = new StopToken;
  process_token = token;
  handle_stop_signals(on_signal);
  return *token;
}

}  // namespace faq
