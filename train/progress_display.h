// How far a program is, for whoever waits for it.
#pragma once

#include <chrono>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "train/run_listener.h"

namespace faq {

/// Progress on stderr: a bar that redraws itself on a terminal, plain lines otherwise. As a listener it shows
/// a run, or an evaluation; what counts something else calls start(), due() and update() itself.
class ProgressDisplay final : public RunListener {
 public:
  explicit ProgressDisplay(bool quiet);
  ~ProgressDisplay() override { end(); }
  ProgressDisplay(const ProgressDisplay&) = delete;
  ProgressDisplay& operator=(const ProgressDisplay&) = delete;

  struct Status {
    std::string title;  ///< of what is counted, e.g. "epoch 3/20 step"
    std::int64_t done = 0, total = 0;
    double seconds_left = 0;
    std::vector<std::string> figures;  ///< e.g. "loss 0.3100", the most telling first
  };
  /// What is counted from now on is something else.
  void start();
  /// Whether an update is wanted yet: a tenth of a second after the last one, or the start, on a terminal,
  /// which is redrawn, elsewhere `seconds` after it.
  bool due(double seconds = std::numeric_limits<double>::infinity()) const;
  void update(const Status& status);
  /// Takes the bar away: what it counted is done.
  void clear();
  /// Leaves the bar where it is: what others write then begins on a line of its own.
  void end();
  /// A line of its own, which stays.
  void line(const std::string& text);

  void started(const RunStarted& event) override;
  void phase_started(const PhaseStarted& event) override;
  void epoch_started(const EpochStarted& event) override;
  void step(const StepDone& event) override;
  void evaluating(const Evaluating& event) override;
  void evaluated() override;
  void epoch(const EpochDone& event) override;
  void finished(const RunFinished& event) override;
  void notice(const std::string& text) override;
  void warning(const std::string& text) override;

 private:
  using Clock = std::chrono::steady_clock;

  bool quiet_;
  bool terminal_;
  bool bar_ = false;  ///< the cursor is behind a bar
  Clock::time_point updated_ = Clock::now();
};

/// Between the lines an evaluation leaves in a log: short ones leave none.
inline constexpr double seconds_between_lines = 30;

}  // namespace faq
