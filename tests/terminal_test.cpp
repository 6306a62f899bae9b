// The programs on a terminal: a bar that redraws itself and never wraps.
#include <pty.h>
#include <sys/ioctl.h>
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

// `narrower`: the columns that the terminal has after the first bar; 0: as before.
Session on_terminal(unsigned short columns, const std::string& program, const Words& arguments,
                    const char* kind = "xterm", const char* no_colour = "", unsigned short narrower = 0) {
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
    ::setenv("NO_COLOR", no_colour, 1);
    ::execv(argv[0], argv.data());
    ::_exit(127);
  }
  Session session;
  char buffer[4096];
  for (ssize_t n = 0; (n = ::read(terminal, buffer, sizeof buffer)) > 0;)  // an error once it has ended
  {
    session.sent.append(buffer, static_cast<std::size_t>(n));
    if (narrower == 0 || session.sent.find("step ") == std::string::npos) continue;
    size.ws_col = narrower;
    ::ioctl(terminal, TIOCSWINSZ, &size);
    narrower = 0;
  }
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
  const auto train = [&](const char* name, const Words& more) {
    return Words{"--data-path",  tiny_images().string(),
                 "--output-dir", (folder / name).string(),
                 "--model",      "resnet20",
                 "--epochs",     "2",
                 "--threads",    "1",
                 "-j",           "1"} +
           more;
  };
  for (const unsigned short columns : {200, 80, 20}) {
    INFO(columns << " columns");
    const Session session = on_terminal(
        columns, FAQ_TRAIN,
        train(std::to_string(columns).c_str(), {"-b", "10", "--lr", "0.01", "--print-freq", "1"}));
    INFO(session.sent);
    CHECK(session.code == 0);
    const Screen screen(session.sent);
    CHECK(screen.redrawn >= 12);  // six steps an epoch
    // A bar, and as many figures as there is room for, whole ones.
    CHECK((session.sent.find("[==") != std::string::npos) == (columns > 20));
    const std::string progress = session.sent.substr(0, session.sent.find("network  "));  // then the table
    CHECK((progress.find("  top-1 ") != std::string::npos) == (columns > 20));
    CHECK((session.sent.find("  lr 1.00e-02") != std::string::npos) == (columns > 80));
    CHECK((session.sent.find("  lr") != std::string::npos) == (columns > 80));
    CHECK_FALSE(screen.shows("step "));  // no bar is left behind
    CHECK(screen.shows("epoch 2: top-1"));
    CHECK(screen.lines.back().empty());
    for (std::size_t at = 0; (at = session.sent.find("step ", at)) != std::string::npos; ++at) {
      const std::size_t begin = session.sent.rfind("\x1b[K", at) + 3;
      const std::size_t end = session.sent.find_first_of("\r\n", at);
      CHECK(end - begin < columns);
    }
  }
  const Session dumb =
      on_terminal(80, FAQ_TRAIN, train("dumb", {"-b", "10", "--lr", "0.01", "--print-freq", "1"}), "dumb");
  CHECK(dumb.code == 0);
  CHECK(dumb.sent.find('\x1b') == std::string::npos);
  // What goes wrong is said on a line of its own.
  const Session diverged =
      on_terminal(80, FAQ_TRAIN, train("diverged", {"-b", "10", "--lr", "1e6", "--print-freq", "1"}));
  INFO(diverged.sent);
  CHECK(diverged.code == 76);
  const Screen screen(diverged.sent);
  CHECK(std::ranges::any_of(screen.lines, [](const auto& line) { return line.starts_with("faq-train: "); }));
}

TEST_CASE("a bar on a terminal that becomes narrower", "[cli]") {
  const TemporaryFolder folder;
  const Session session = on_terminal(
      120, FAQ_TRAIN,
      {"--data-path", tiny_images().string(), "--output-dir", (folder / "run").string(), "--epochs", "2",
       "--threads", "1", "-j", "1", "-b", "2", "--lr", "0.001", "--print-freq", "1", "--report", "none"},
      "xterm", "", 40);
  INFO(session.sent);
  REQUIRE(session.code == 0);
  // Once the bar is longer than a line: its lines are erased from the first one on. After that it fits again.
  const std::size_t erased = session.sent.find("A\x1b[J");
  REQUIRE(erased != std::string::npos);
  CHECK(session.sent.find("A\x1b[J", erased + 1) == std::string::npos);
  for (std::size_t at = erased; (at = session.sent.find("step ", at)) != std::string::npos; ++at) {
    const std::size_t begin = session.sent.rfind("\x1b[", at) + 3,
                      end = session.sent.find_first_of("\r\n", at);
    CHECK(end - begin < 40);
  }
}

TEST_CASE("how a run ends, with and without colours", "[cli]") {
  const TemporaryFolder folder;
  const auto arguments = [&](const char* name) {
    return Words{"--data-path",
                 tiny_images().string(),
                 "--output-dir",
                 (folder / name).string(),
                 "--scheme",
                 "faq",
                 "--bits",
                 "4",
                 "--epochs",
                 "1",
                 "--threads",
                 "1",
                 "-j",
                 "1",
                 "-b",
                 "8",
                 "--shards",
                 "2",
                 "--lr",
                 "0.001",
                 "--calibration-batches",
                 "1"};
  };
  const std::string bold = "\x1b[1m", yellow = "\x1b[33mwarning:\x1b[0m ";
  const Session coloured = on_terminal(100, FAQ_TRAIN, arguments("coloured"));
  INFO(coloured.sent);
  REQUIRE(coloured.code == 0);
  CHECK(coloured.sent.find(bold + "fine-tuned ") != std::string::npos);
  CHECK(coloured.sent.find(yellow) != std::string::npos);  // shards of 8 images
  const Screen screen(coloured.sent);
  CHECK(screen.shows("network            top-1   top-5     loss      size  images/s"));
  CHECK(screen.shows("calibrated"));
  CHECK(screen.shows("best top-1 "));
  CHECK(screen.shows("look at it:  " + (folder / "coloured" / "report.html").string()));
  CHECK(screen.shows("export it:   faq-export " + (folder / "coloured" / "integer.safetensors").string()));
  const Session plain = on_terminal(100, FAQ_TRAIN, arguments("plain"), "xterm", "1");
  REQUIRE(plain.code == 0);
  CHECK(plain.sent.find("\x1b[1m") == std::string::npos);
  CHECK(plain.sent.find("\x1b[3") == std::string::npos);
  CHECK(plain.sent.find("warning: ") != std::string::npos);
  const Outcome logged = run_program(FAQ_TRAIN, arguments("logged"));
  REQUIRE(logged.code == 0);
  CHECK((logged.out + logged.err).find('\x1b') == std::string::npos);
  CHECK(lines_of(logged.out).size() == 4);  // a head, two networks, the summary
  // The commands that runs name can be run as they are, whatever the folder is called.
  const auto run_hint = [&](const std::string& printed, const std::string& hint, const char* program) {
    INFO(printed);
    const std::size_t begin = printed.find(hint);
    REQUIRE(begin != std::string::npos);
    const std::size_t words = begin + hint.size();
    const std::string line = printed.substr(words, printed.find('\n', words) - words);
    const Outcome done = run_program("/bin/sh", {"-c", concat(program, " ", line, " --threads 1")});
    INFO(done.err);
    CHECK(done.code == 0);
  };
  run_hint(logged.err, "evaluate it: faq-eval ", FAQ_EVAL);
  Words floats = arguments("a float's run");
  *std::ranges::find(floats, "faq") = "none";
  floats.erase(std::ranges::find(floats, "--bits"), std::ranges::find(floats, "--epochs"));
  floats.erase(std::ranges::find(floats, "--calibration-batches"), floats.end());
  const Outcome trained = run_program(FAQ_TRAIN, floats);
  INFO(trained.err);
  REQUIRE(trained.code == 0);
  run_hint(trained.err, "evaluate it: faq-eval ", FAQ_EVAL);
  run_hint(trained.err, "quantize it: faq-train ", FAQ_TRAIN);
  CHECK(fs::exists(folder / "a float's run-8bit" / "integer.safetensors"));
}

TEST_CASE("evaluations show how far they are", "[cli]") {
  // Images so large that thirty of them take longer than a tenth of a second.
  const Words arguments{"--weights",
                        (finished_run("none") / "best.safetensors").string(),
                        "--data-path",
                        tiny_images().string(),
                        "--threads",
                        "1",
                        "-b",
                        "1",
                        "--val-resize-size",
                        "256",
                        "--val-crop-size",
                        "256"};
  const Session watched = on_terminal(80, FAQ_EVAL, arguments);
  INFO(watched.sent);
  REQUIRE(watched.code == 0);
  CHECK(watched.sent.find("evaluating, batch ") != std::string::npos);
  const Screen screen(watched.sent);
  CHECK_FALSE(screen.shows("evaluating"));
  CHECK(screen.shows("float checkpoint: top-1"));
  const Session quiet = on_terminal(80, FAQ_EVAL, arguments + Words{"--quiet"});
  REQUIRE(quiet.code == 0);
  CHECK(quiet.sent.starts_with("float checkpoint: top-1"));
  // A log has nothing but what takes long.
  const Outcome logged = run_program(FAQ_EVAL, arguments);
  REQUIRE(logged.code == 0);
  CHECK(lines_of(logged.err).size() == 2);  // how many threads, and what is done to images
}
