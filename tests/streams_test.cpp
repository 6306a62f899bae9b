// Programs whose streams, pipes and limits are not what one would wish for.
#include "tests/run_testing.h"

using namespace faq;
using namespace faq::testing;

namespace {

// A program as a line of bash runs it: "$0" "$@" stand for it and its arguments.
Outcome run_in_bash(const std::string& line, const std::string& program, const Words& arguments) {
  return run_program("/bin/bash", Words{"-c", "set -o pipefail; " + line, program} + arguments);
}

}  // namespace

TEST_CASE("a run goes on when nobody can be told of it", "[streams]") {
  for (const char* line :
       {"\"$0\" \"$@\" 2>&-", "\"$0\" \"$@\" 2>/dev/full", "\"$0\" \"$@\" 2>&1 >/dev/null | :"}) {
    INFO(line);
    const TemporaryFolder output;
    require_done(run_in_bash(line, FAQ_TRAIN, training(output.path(), {"--epochs", "1"})));
    // What is said goes nowhere else.
    CHECK(epochs_of(output.path()) == std::vector{0, 1});
    const Outcome same = run_program(FAQ_TRAIN, training(output / "again", {"--epochs", "1", "--quiet"}));
    require_done(same);
    CHECK(tensor_difference(output / "last.safetensors", output / "again" / "last.safetensors").empty());
  }
}

TEST_CASE("an error that nobody can be told of still has its exit code", "[streams]") {
  for (const char* line : {"\"$0\" \"$@\" 2>&-", "\"$0\" \"$@\" 2>/dev/full"}) {
    INFO(line);
    CHECK(run_in_bash(line, FAQ_TRAIN, {"--no-such-option"}).code == 64);
  }
}

TEST_CASE("results for a closed output, or a reader that left, are an error", "[streams]") {
  for (const char* line : {"\"$0\" \"$@\" >&-", "exec 3> >(:); wait $!; \"$0\" \"$@\" >&3"}) {
    INFO(line);
    const Outcome outcome = run_in_bash(line, FAQ_TRAIN, {"--help"});
    INFO(outcome.err);
    CHECK(outcome.signal == 0);
    CHECK(outcome.code == 74);
  }
}

TEST_CASE("metrics that reach the limit on the size of files are an error", "[streams]") {
  const TemporaryFolder output;
  const Words resumed = training(output.path(), {"--resume", "auto"});
  Process process(FAQ_TRAIN, resumed);
  const bool in_time = process.wait_until([&] { return reached(output.path(), 4); });
  process.send(SIGTERM);
  REQUIRE(process.wait().code == 75);
  REQUIRE(in_time);
  std::string lines = file_bytes(output / "metrics.jsonl");
  const std::string filler = R"({"step":0,"filler":")" + std::string(60, ' ') + "\"}\n";
  while (lines.size() + filler.size() < std::size_t{4096} << 10) lines += filler;
  write_file(output / "metrics.jsonl", lines);
  const Outcome outcome = run_in_bash("ulimit -f 4096; exec \"$0\" \"$@\"", FAQ_TRAIN, resumed);
  INFO(outcome.err);
  CHECK(outcome.signal == 0);
  CHECK(outcome.code == 74);
  CHECK(outcome.err.find("metrics.jsonl") != std::string::npos);
  require_done(run_program(FAQ_TRAIN, resumed));  // nothing was lost
}

TEST_CASE("a data set of more files than the usual limit", "[streams]") {
  const TemporaryFolder folder;
  write_data_set(folder / "images", 6, 6);
  const std::string pack =
      "cd \"$1\" && mkdir train val && tar -C images/val -cf val/0.tar . && "
      "for i in $(seq 60); do tar -C images/train -cf train/$i.tar .; done";
  require_done(run_in_bash(pack, "pack", {folder.path().string()}));
  const Words options{"--data-path", folder.path().string(), "--dry-run", "--threads", "1"};
  const Outcome raised = run_in_bash("ulimit -S -n 30; exec \"$0\" \"$@\"", FAQ_TRAIN, options);
  require_done(raised);
  CHECK(raised.out.find("360 training and 6 validation images") != std::string::npos);
  const Outcome limited = run_in_bash("ulimit -n 30; exec \"$0\" \"$@\"", FAQ_TRAIN, options);
  INFO(limited.err);
  CHECK(limited.code == 74);
  CHECK(limited.err.find("Too many open files") != std::string::npos);
}

TEST_CASE("a scheduler says how many threads there are", "[streams]") {
  const TemporaryFolder folder;
  const struct {
    const char* line;
    Words more;
    int threads;
    const char* said;  ///< first
  } rows[] = {
      {"OMP_NUM_THREADS=3 exec \"$0\" \"$@\"", {}, 3, "3 threads (OMP_NUM_THREADS; "},
      {"OMP_NUM_THREADS=3 exec \"$0\" \"$@\"", {"--threads", "1"}, 1, "1 thread (as asked; "},
      {"unset OMP_NUM_THREADS; exec taskset -c \"$(taskset -cp $$ | grep -o '[0-9]*$')\" \"$0\" \"$@\"",
       {},
       1,
       "1 thread ("},
  };
  for (const auto& row : rows) {
    INFO(row.said);
    const fs::path output = folder / std::to_string(std::distance(fs::directory_iterator(folder.path()), {}));
    const Outcome outcome = run_in_bash(
        row.line, FAQ_TRAIN,
        Words{"--data-path", images().string(), "--epochs", "0", "--output-dir", output.string()} + row.more);
    require_done(outcome);
    INFO(outcome.err);
    CHECK(json::parse(file_bytes(output / "run.json"))["threads"] == row.threads);
    CHECK(outcome.err.starts_with(row.said));
  }
}

TEST_CASE("threads that wait spin for a short time, unless the environment says how", "[streams]") {
  const TemporaryFolder folder;
  // When its folder is there, it is past what it does first.
  const std::string watch =
      "; \"$0\" --data-path \"$1\" --output-dir \"$2\" --epochs 1000 --threads 1 --quiet & "
      "until [ -e \"$2/.lock\" ] || ! kill -0 $!; do sleep 0.01; done; cat /proc/$!/comm; tr '\\0' '\\n' "
      "</proc/$!/environ | grep -E '^(OMP_WAIT|GOMP_SPIN|KMP_BLOCK)' | sort; kill $!; wait $!";
  const std::pair<const char*, Words> rows[] = {
      {"unset OMP_WAIT_POLICY GOMP_SPINCOUNT KMP_BLOCKTIME OMP_PROC_BIND OMP_PLACES GOMP_CPU_AFFINITY",
       {"faq-train", "GOMP_SPINCOUNT=3000", "KMP_BLOCKTIME=1"}},
      // Started once more, bound threads would share the CPU that the runtime has bound the first one to.
      {"unset OMP_WAIT_POLICY GOMP_SPINCOUNT KMP_BLOCKTIME; export OMP_PROC_BIND=true", {"faq-train"}},
      {"unset OMP_WAIT_POLICY KMP_BLOCKTIME; export GOMP_SPINCOUNT=7", {"faq-train", "GOMP_SPINCOUNT=7"}},
      {"unset GOMP_SPINCOUNT KMP_BLOCKTIME; export OMP_WAIT_POLICY=passive",
       {"faq-train", "OMP_WAIT_POLICY=passive"}},
  };
  for (const auto& [environment, said] : rows) {
    INFO(environment);
    const fs::path output = folder / std::to_string(std::distance(fs::directory_iterator(folder.path()), {}));
    const Outcome outcome = run_in_bash(environment + watch, FAQ_TRAIN, {images().string(), output.string()});
    INFO(outcome.err);
    CHECK(outcome.code == 75);
    CHECK(lines_of(outcome.out) == said);
  }
}
