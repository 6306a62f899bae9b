#include "train/progress_display.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string_view>

namespace faq {
namespace {

constexpr double seconds_between_redraws = 0.1;
constexpr const char* erase_line = "\r\x1b[K";

// One that can erase a line.
bool stderr_is_terminal() {
  const char* kind = std::getenv("TERM");
  return ::isatty(STDERR_FILENO) == 1 && kind != nullptr && std::string_view(kind) != "dumb";
}

std::size_t terminal_columns() {
  winsize size{};
  const bool known = ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
  return known ? size.ws_col : 80;
}

// A bar and the text, never wider than the terminal: a line that wraps cannot be erased. The text comes
// first, its end is what is cut off.
std::string fitted(const std::string& text, std::int64_t done, std::int64_t total) {
  constexpr std::size_t widest = 24, narrowest = 8;
  const std::size_t columns = terminal_columns() - 1;  // a full line wraps on some terminals
  const std::size_t brackets = 3;
  const std::size_t width = std::min(widest, columns - std::min(columns, text.size() + brackets));
  if (width < narrowest) return text.substr(0, columns);
  const std::size_t filled =
      total > 0 ? width * static_cast<std::size_t>(std::min(done, total)) / static_cast<std::size_t>(total)
                : width;
  return fmt::format("[{:=<{}}{: <{}}] {}", "", filled, "", width - filled, text);
}

}  // namespace

ProgressDisplay::ProgressDisplay(bool quiet) : quiet_(quiet), terminal_(stderr_is_terminal()) {}

ProgressDisplay::~ProgressDisplay() {
  if (bar_) std::fputc('\n', stderr);
}

bool ProgressDisplay::due(double seconds) const {
  const std::chrono::duration<double> passed = Clock::now() - updated_;
  return !quiet_ && passed.count() >= (terminal_ ? seconds_between_redraws : seconds);
}

void ProgressDisplay::update(const Status& status) {
  if (quiet_) return;
  updated_ = Clock::now();
  // Half a year and more is "unknown": no rate yet.
  const auto left = static_cast<std::int64_t>(std::min(status.seconds_left, 2e7));
  const std::string text = fmt::format("{} {}/{}  left {}:{:02}:{:02}  {}", status.title, status.done,
                                       status.total, left / 3600, left / 60 % 60, left % 60, status.figures);
  if (!terminal_) {
    fmt::print(stderr, "{}\n", text);
    return;
  }
  fmt::print(stderr, "{}{}", erase_line, fitted(text, status.done, status.total));
  std::fflush(stderr);
  bar_ = true;
}

void ProgressDisplay::clear() {
  if (bar_) fmt::print(stderr, "{}", erase_line);
  bar_ = false;
}

void ProgressDisplay::line(const std::string& text) {
  if (quiet_) return;
  clear();
  fmt::print(stderr, "{}\n", text);
}

}  // namespace faq
