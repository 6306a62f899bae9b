#include "train/progress_display.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <string_view>

#include "core/printable.h"
#include "core/standard_error.h"
#include "core/terminal.h"
#include "core/text.h"

namespace faq {
namespace {

constexpr double seconds_between_redraws = 0.1;
constexpr double unknown = 999 * 3600.0;
const std::string separator = "  ";
const std::string erase_line = "\r\x1b[K";
const std::string yellow = "\x1b[33m", plain = "\x1b[0m";

// Returns a bar and as many of the parts as fit, because a line that wraps cannot be erased.
std::string fitted(const std::vector<std::string>& parts, std::int64_t done, std::int64_t total) {
  constexpr std::size_t widest = 24, narrowest = 4, brackets = 3;
  const std::size_t columns = terminal_columns(STDERR_FILENO) - 1;  // a full line wraps on some terminals
  std::string text = parts.front();
  for (std::size_t i = 1; i < parts.size(); ++i) {
    if (narrowest + brackets + text.size() + separator.size() + parts[i].size() > columns) break;
    text += separator + parts[i];
  }
  const std::size_t width = std::min(widest, columns - std::min(columns, text.size() + brackets));
  if (width < narrowest) return text.substr(0, columns);
  const std::size_t filled =
      total > 0 ? width * static_cast<std::size_t>(std::min(done, total)) / static_cast<std::size_t>(total)
                : width;
  return fmt::format("[{:=<{}}{: <{}}] {}", "", filled, "", width - filled, text);
}

}  // namespace

ProgressDisplay::ProgressDisplay(Says says, Wording wording)
    : says_(says),
      wording_(std::move(wording)),
      terminal_(is_terminal(STDERR_FILENO)),
      colour_(wants_colour(STDERR_FILENO)) {}

void ProgressDisplay::end() {
  if (bar_) write_to_stderr("\n");
  bar_ = false;
}

void ProgressDisplay::start() { updated_ = Clock::now(); }

bool ProgressDisplay::due(double seconds) const {
  const std::chrono::duration<double> passed = Clock::now() - updated_;
  return says_ == Says::everything && passed.count() >= (terminal_ ? seconds_between_redraws : seconds);
}

void ProgressDisplay::update(const Status& status) {
  if (says_ != Says::everything) return;
  updated_ = Clock::now();
  const auto left = static_cast<std::int64_t>(std::min(unknown, status.seconds_left));  // NaN: unknown
  std::vector<std::string> parts{fmt::format("{} {}/{}", status.title, status.done, status.total),
                                 fmt::format("left {}:{:02}:{:02}", left / 3600, left / 60 % 60, left % 60)};
  parts.insert(parts.end(), status.figures.begin(), status.figures.end());
  if (!terminal_) {
    write_to_stderr(join(parts, separator) + "\n");
    return;
  }
  const std::string text = fitted(parts, status.done, status.total);
  write_to_stderr(erased() + text);
  bar_ = true;
  width_ = text.size();
}

// A terminal that has become narrower has wrapped the bar. It then takes more lines, which are erased from
// the first one on.
std::string ProgressDisplay::erased() const {
  const std::size_t columns = terminal_columns(STDERR_FILENO);
  if (!bar_ || width_ <= columns) return erase_line;
  return fmt::format("\r\x1b[{}A\x1b[J", (width_ - 1) / columns);
}

void ProgressDisplay::clear() {
  if (bar_) write_to_stderr(erased());
  bar_ = false;
}

void ProgressDisplay::line(const std::string& text) {
  const bool warns = text.starts_with(warning_prefix);
  if (says_ == Says::nothing || (says_ == Says::warnings && !warns)) return;
  clear();
  std::string shown = printable(wording_ ? wording_(text) : text, longest_message);
  if (warns && colour_)
    shown = yellow + shown.substr(0, shown.find(' ')) + plain + shown.substr(shown.find(' '));
  write_to_stderr(shown + "\n");
}

}  // namespace faq
