#include "train/signals.h"

#include <csignal>
#include <initializer_list>

namespace faq {
namespace {

// Created before a handler can need it. Never destroyed, because a signal may come while the process exits.
const StopToken* process_token = nullptr;

void on_signal(int) { process_token->request_stop(); }

}  // namespace

StopToken install_stop_handlers() {
  static const StopToken* const token = new StopToken;
  process_token = token;
  struct sigaction action = {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;
  for (int signal : {SIGTERM, SIGINT, SIGUSR1}) sigaction(signal, &action, nullptr);
  return *token;
}

}  // namespace faq
