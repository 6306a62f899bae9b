// The programs on a terminal: a bar that redraws itself and never wraps.
#include <pty.h>
#include <sys/wait.h>

#include "tests/programs.h"

using namespace faq;
using namespace faq::testing;

namespace {

// What a terminal of so many columns was sent by a program, both streams, and how the program ended.
struct Session {
  std::string sent;
  int code = -1;
};

Session on_terminal(unsigned short columns, const std::string& program, const Words& arguments,
                    const char* kind = "xterm") {
  Words words = Words{program} + arguments;
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  winsize size{24, columns, 0, 0};
  int terminal = -1;
  const pid_t pid = ::forkpty(&terminal, nullptr, nullptr, &size);
  REQUIRE(pid >= 0);
  if (pid == 0) {
    ::setenv("TERM", kind, 1);
    ::execv(argv[0], argv.data());
    ::_exit(127);
  }
  Session session;
  char buffer[4096];
  for (ssize_t n = 0; (n = ::read(terminal, buffer, sizeof buffer)) > 0;)  // an error once it has ended
    session.sent.append(buffer, static_cast<std::size_t>(n));
  ::close(terminal);
  int status = 0;
  REQUIRE(::waitpid(pid, &status, 0) == pid);
  if (WIFEXITED(status)) session.code = WEXITSTATUS(status);
  return session;
}

// The lines a terminal shows in the end.
struct Screen {
  std::vector<std::string> lines{""};
  int redrawn = 0;

  explicit Screen(const std::string& sent) {
    const std::string erase = "\r\x1b[K";
    for (std::size_t i = 0; i < sent.size(); ++i) {
      if (sent.compare(i, erase.size(), erase) == 0) {
        lines.back().clear();
        i += erase.size() - 1;
        ++redrawn;
      } else if (sent[i] == '\n') {
        lines.emplace_back();
      } else if (sent[i] != '\r') {
        lines.back() += sent[i];
      }
    }
  }
  bool shows(const std::string& text) const {
    return std::ranges::any_of(lines, [&](const auto& line) { return line.find(text) != std::string::npos; });
  }
};

}  // namespace

TEST_CASE("a bar that redraws itself on a terminal", "[cli]") {
  const TemporaryFolder folder;
  const auto train = [&](const char* name, const char* lr) {
    return Words{"--data-path",  tiny_images().string(),
                 "--output-dir", (folder / name).string(),
                 "--model",      "resnet20",
                 "-b",           "10",
                 "--epochs",     "2",
                 "--lr",         lr,
                 "--threads",    "1",
                 "-j",           "1",
                 "--print-freq", "1"};
  };
  for (const unsigned short columns : {200, 80, 20}) {
    INFO(columns << " columns");
    const Session session = on_terminal(columns, FAQ_TRAIN, train(std::to_string(columns).c_str(), "0.01"));
    INFO(session.sent);
    CHECK(session.code == 0);
    const Screen screen(session.sent);
    CHECK(screen.redrawn >= 12);  // six steps an epoch
    // A bar where there is room for one.
    if (columns != 80) CHECK((session.sent.find("[====") != std::string::npos) == (columns == 200));
    CHECK_FALSE(screen.shows("left 0:"));  // no bar is left behind
    CHECK(screen.shows("epoch 2: top-1"));
    CHECK(screen.lines.back().empty());
    for (std::size_t at = 0; (at = session.sent.find("step ", at)) != std::string::npos; ++at) {
      const std::size_t begin = session.sent.rfind("\x1b[K", at) + 3;
      const std::size_t end = session.sent.find_first_of("\r\n", at);
      CHECK(end - begin < columns);
    }
  }
  const Session dumb = on_terminal(80, FAQ_TRAIN, train("dumb", "0.01"), "dumb");
  CHECK(dumb.code == 0);
  CHECK(dumb.sent.find('\x1b') == std::string::npos);
  // What goes wrong is said on a line of its own.
  const Session diverged = on_terminal(80, FAQ_TRAIN, train("diverged", "1e6"));
  INFO(diverged.sent);
  CHECK(diverged.code == 76);
  const Screen screen(diverged.sent);
  CHECK(std::ranges::any_of(screen.lines, [](const auto& line) { return line.starts_with("faq-train: "); }));
}
