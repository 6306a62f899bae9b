#include "train/run_listener.h"

#include <string_view>

namespace faq {

void RunListeners::started(const RunStarted& event) {
  for (RunListener* l : listeners_) l->started(event);
}
void RunListeners::phase_started(const PhaseStarted& event) {
  for (RunListener* l : listeners_) l->phase_started(event);
}
void RunListeners::epoch_started(const EpochStarted& event) {
  for (RunListener* l : listeners_) l->epoch_started(event);
}
void RunListeners::step(const StepDone& event) {
  for (RunListener* l : listeners_) l->step(event);
}
void RunListeners::evaluating(const Evaluating& event) {
  for (RunListener* l : listeners_) l->evaluating(event);
}
void RunListeners::evaluated() {
  for (RunListener* l : listeners_) l->evaluated();
}
void RunListeners::epoch(const EpochDone& event) {
  for (RunListener* l : listeners_) l->epoch(event);
}
void RunListeners::saved(const Saved& event) {
  for (RunListener* l : listeners_) l->saved(event);
}
void RunListeners::finished(const RunFinished& event) {
  for (RunListener* l : listeners_) l->finished(event);
}
void RunListeners::notice(const std::string& text) {
  for (RunListener* l : listeners_) l->notice(text);
}
void RunListeners::warning(const std::string& text) {
  for (RunListener* l : listeners_) l->warning(text);
}

void tell(RunListener& listener, const std::string& line) {
  if (line.starts_with(warning_prefix))
    listener.warning(line.substr(std::string_view(warning_prefix).size()));
  else
    listener.notice(line);
}

}  // namespace faq
