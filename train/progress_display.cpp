#include "train/progress_display.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <string_view>

#include "core/printable.h"
#include "core/standard_error.h"
#include "core/text.h"

namespace faq {
namespace {

constexpr double seconds_between_redraws = 0.1;
constexpr double unknown = 999 * 3600.0;
const std::string separator = "  ";
const std::string erase_line = "\r\x1b[K";

// True for a terminal that can erase a line.
bool stderr_is_terminal() {
  const char* kind = std::getenv("TERM");
  return ::isatty(STDERR_FILENO) == 1 && kind != nullptr && std::string_view(kind) != "dumb";
}

std::size_t terminal_columns() {
  winsize size{};
  const bool known = ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
  return known ? size.ws_col : 80;
}

// Returns a bar and as many of the parts as fit, because a line that wraps cannot be erased.
std::string fitted(const std::vector<std::string>& parts, std::int64_t done, std::int64_t total) {
  constexpr std::size_t widest = 24, narrowest = 4, brackets = 3;
  const std::size_t columns = terminal_columns() - 1;  // a full line wraps on some terminals
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
    : says_(says), wording_(std::move(wording)), terminal_(stderr_is_terminal()) {}

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
  write_to_stderr(erase_line + fitted(parts, status.done, status.total));
  bar_ = true;
}

void ProgressDisplay::clear() {
  if (bar_) write_to_stderr(erase_line);
  bar_ = false;
}

void ProgressDisplay::line(const std::string& text) {
  const bool warns = text.starts_with(warning_prefix);
  if (says_ == Says::nothing || (says_ == Says::warnings && !warns)) return;
  clear();
  write_to_stderr(printable(wording_ ? wording_(text) : text, longest_message) + "\n");
}

}  // namespace faq
