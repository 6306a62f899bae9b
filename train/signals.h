// Connects signals to a StopToken. Programs install it, the library never does.
#pragma once

#include <signal.h>

#include "train/stop_token.h"

namespace faq {

/// The signals that people, shells and schedulers send to what shall end: SIGTERM, SIGINT, SIGUSR1, SIGUSR2,
/// SIGHUP, SIGXCPU, SIGQUIT, SIGALRM, SIGVTALRM and SIGPWR. Not SIGPROF, which is a profiler's.
sigset_t stop_signals();

/// After this call these signals request a stop of the returned token instead of ending the process. One that
/// was ignored when the process started because somebody hung up (SIGHUP, by nohup) stays ignored. A process
/// has one such token; every call returns it.
StopToken install_stop_handlers();

/// Gives the signals this handler, but leaves an ignored SIGHUP ignored, and delivers what has been held back
/// since before the process started (hold_stop_signals). May be called before main and before all other
/// constructors.
void handle_stop_signals(void (*handler)(int));

/// Holds the signals back, also across exec.
void hold_stop_signals();

}  // namespace faq
