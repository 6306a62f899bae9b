// Shows how far a program is.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "train/run_listener.h"

namespace faq {

/// Shows progress on stderr: a bar that redraws itself on a terminal, plain lines otherwise. As a listener it
/// shows a run or an evaluation. Code that counts something else calls start(), due() and update() itself.
class ProgressDisplay final : public RunListener {
 public:
  /// `nothing` is for ranks whose news the first one tells.
  enum class Says { everything, warnings, nothing };
  /// Changes a line before it is written, e.g. names what the reader can set as the reader knows it.
  using Wording = std::function<std::string(const std::string&)>;
  explicit ProgressDisplay(Says says = Says::everything, Wording wording = {});
  ~ProgressDisplay() override { end(); }
  ProgressDisplay(const ProgressDisplay&) = delete;
  ProgressDisplay& operator=(const ProgressDisplay&) = delete;

  struct Status {
    std::string title;  ///< name of what is counted, e.g. "epoch 3/20 step"
    std::int64_t done = 0, total = 0;
    double seconds_left = 0;
    std::vector<std::string> figures;  ///< e.g. "loss 0.3100"; the most important first
  };
  /// Starts to count something new.
  void start();
  /// True if it is time for an update. On a terminal that is a tenth of a second after the last update or
  /// start(). Elsewhere it is `seconds` after it.
  bool due(double seconds = std::numeric_limits<double>::infinity()) const;
  void update(const Status& status);
  /// Removes the bar, because its task is done.
  void clear();
  /// Leaves the bar where it is, so that later output starts on a new line.
  void end();
  /// Writes a line that stays, in one piece whatever names are in it. One that starts with warning_prefix is
  /// written if warnings are.
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

  std::string erased() const;

  Says says_;
  Wording wording_;
  bool terminal_;
  bool colour_;
  bool bar_ = false;       ///< the cursor is at the end of a bar
  std::size_t width_ = 0;  ///< of the bar
  Clock::time_point updated_ = Clock::now();
};

/// Seconds between the lines that an evaluation writes to a log. A short evaluation writes none.
inline constexpr double seconds_between_lines = 30;

}  // namespace faq
