// The programs as processes: threads that are not granted, files that are none, signals, names that do
// something to a terminal.
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "core/text.h"
#include "tests/programs.h"
#include "tests/run_testing.h"

using namespace faq;
using namespace faq::testing;

namespace {

// A program as a line of bash starts it, and that it does not end by itself is not waited for.
Outcome in_bash(const std::string& line, const std::string& program, const Words& arguments) {
  return run_program("/bin/bash", Words{"-c", line, program} + arguments);
}
const std::string in_time = "exec timeout -s KILL 300 \"$0\" \"$@\"";

bool is_line_for_terminals(const std::string& text) {
  return std::ranges::none_of(text, [](unsigned char c) { return c < 0x20 || c == 0x7f; });
}

}  // namespace

TEST_CASE("a run ends with fewer threads than it asked for", "[process]") {
  const TemporaryFolder folder;
  require_done(train_by_program(folder / "alone", faq_options + Words{"--epochs", "1"}));
  struct Row {
    const char* environment;
    const char* said;
    bool same_bits;  ///< as one thread
  };
  const Row rows[] = {
      {"OMP_THREAD_LIMIT=1", "warning: 1 thread instead of 4", true},
      {"OMP_THREAD_LIMIT=2", "warning: 2 threads instead of 4", false},
      {"OMP_MAX_ACTIVE_LEVELS=0", "warning: 1 thread instead of 4", true},
      {"OMP_DYNAMIC=true", "4 threads", false},
      {"OMP_NUM_THREADS=1", "4 threads", false},
  };
  for (const Row& row : rows) {
    INFO(row.environment);
    const fs::path output = folder / row.environment;
    const Outcome outcome = in_bash(concat(row.environment, " ", in_time), FAQ_TRAIN,
                                    training(output, faq_options + Words{"--epochs", "1", "--threads", "4"}));
    require_done(outcome);
    CHECK(outcome.err.find(row.said) != std::string::npos);
    if (row.same_bits)
      CHECK(tensor_difference(output / "last.safetensors", folder / "alone" / "last.safetensors").empty());
  }
}

TEST_CASE("threads that cannot be started are an error with a text", "[process]") {
  if (FAQ_SANITIZED) {
    WARN("sanitizers reserve more addresses than the limit");
    return;
  }
  // Room for the program, but not for the stacks of so many threads.
  const TemporaryFolder folder;
  const Outcome outcome = in_bash("ulimit -s 65536; ulimit -v 4000000; " + in_time, FAQ_TRAIN,
                                  training(folder / "run", {"--threads", "200"}));
  INFO(outcome.err);
  CHECK(outcome.code == 71);
  CHECK(outcome.err.find("expected 200 threads, the system started ") != std::string::npos);
  CHECK(outcome.err.find("libgomp") == std::string::npos);
  // A number that no machine has is a mistake.
  check_refused({"so many threads", FAQ_TRAIN, training(folder / "none", {"--threads", "100000000"}), 64,
                 "at most 4096"});
  CHECK(!fs::exists(folder / "none"));
}

TEST_CASE("arguments that are too long for the parser are refused", "[process]") {
  const TemporaryFolder folder;
  const std::string letters(40'000, 'a');
  write_file(folder / "long.json", R"({"weights": ")" + letters + "\"}");
  const Refusal rows[] = {
      {"faq-train", FAQ_TRAIN, {"--weights=" + letters}, 64, "of 40010 bytes: expected at most"},
      {"faq-eval", FAQ_EVAL, {"--weights=" + letters}, 64, "of 40010 bytes: expected at most"},
      {"faq-bench", FAQ_BENCH, {"--model=" + letters}, 64, "of 40008 bytes: expected at most"},
      {"no option", FAQ_TRAIN, {letters}, 64, "of 40000 bytes: expected at most"},
      {"a name", FAQ_TRAIN, {"--" + letters}, 64, "of 40002 bytes: expected at most"},
      {"a value of its own", FAQ_TRAIN, {"--weights", letters}, 64, "of 40000 bytes: expected at most"},
      {"an image", FAQ_EVAL, {"--predict", letters}, 64, "of 40000 bytes: expected at most"},
      {"a million letters in all",
       FAQ_TRAIN,
       {"--mean=" + std::string(100'000, ',')},
       64,
       "of 100007 bytes: expected at most"},
      {"in a config file", FAQ_TRAIN, {"-c", (folder / "long.json").string()}, 64, "value of 40000 bytes"},
  };
  for (const Refusal& row : rows) check_refused(row);
}

TEST_CASE("no reader waits for a pipe, or reads a device", "[process]") {
  const TemporaryFolder folder;
  const std::string network = (finished_run("faq") / "integer.safetensors").string(),
                    data = tiny_images().string();
  REQUIRE(::mkfifo((folder / "pipe").c_str(), 0600) == 0);
  fs::create_directory(folder / "directory");
  const int socket = ::socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
  const std::string name = (folder / "socket").string();
  REQUIRE(name.size() < sizeof address.sun_path);
  std::ranges::copy(name, address.sun_path);
  REQUIRE(::bind(socket, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
  const fs::path run = folder / "run";
  const Words train{"--data-path", data, "--output-dir", (folder / "new").string(),
                    "--epochs",    "0",  "-j",           "1",
                    "--threads",   "1"};
  struct Reader {
    const char* what;
    const char* program;
    std::function<Words(const std::string&)> arguments;
  };
  const auto eval = [&](const Words& more) {
    return Words{"--weights", network, "--data-path", data, "--threads", "1"} + more;
  };
  const Reader readers[] = {
      {"config", FAQ_TRAIN,
       [&](const std::string& f) {
         return train + Words{"--config", f};
       }},
      {"weights", FAQ_TRAIN,
       [&](const std::string& f) {
         return train + Words{"--weights", f};
       }},
      {"teacher", FAQ_TRAIN,
       [&](const std::string& f) {
         return train + Words{"--distill", "frozen", "--teacher", f};
       }},
      {"checkpoint", FAQ_TRAIN,
       [&](const std::string& f) {
         return train + Words{"--resume", f};
       }},
      {"network", FAQ_EVAL,
       [&](const std::string& f) { return Words{"--weights", f, "--data-path", data, "--threads", "1"}; }},
      {"other network", FAQ_EVAL,
       [&](const std::string& f) {
         return eval({"--compare", f});
       }},
      {"class names", FAQ_EVAL,
       [&](const std::string& f) {
         return eval({"--per-class", "--class-names", f});
       }},
      {"image", FAQ_EVAL,
       [&](const std::string& f) { return Words{"--weights", network, "--threads", "1", "--predict", f}; }},
      {"configuration of a run", FAQ_EVAL,
       [&](const std::string& f) {
         return Words{"--analyze", "sensitivity", "--config", f, "--data-path", data};
       }},
  };
  for (const Reader& reader : readers) {
    for (const std::string& file :
         {(folder / "pipe").string(), std::string("/dev/zero"), (folder / "directory").string(), name,
          std::string("/dev/null"), (folder / "missing").string()}) {
      INFO(reader.what << " " << file);
      const Outcome outcome = in_bash(in_time, reader.program, reader.arguments(file));
      INFO(outcome.err);
      CHECK(outcome.signal == 0);
      CHECK((outcome.code == 65 || outcome.code == 66));
      REQUIRE(lines_of(outcome.err).size() == 1);
      CHECK(outcome.err.find(file) != std::string::npos);
    }
  }
  ::close(socket);
}

TEST_CASE("files of a run that are no files stop it, and nothing is lost", "[process]") {
  const TemporaryFolder folder;
  Process process(FAQ_TRAIN, training(folder / "run", {"--checkpoint-interval", "1"}));
  REQUIRE(process.wait_until([&] { return reached(folder / "run", 3); }));
  process.send(SIGTERM);
  REQUIRE(process.wait().code == 75);
  const fs::path metrics_file = folder / "run" / "metrics.jsonl";
  const Words resumed = training(folder / "run", {"--resume", "auto"});
  fs::rename(metrics_file, folder / "kept");
  struct Row {
    const char* what;
    std::function<void()> make;
  };
  const Row rows[] = {
      {"a pipe", [&] { REQUIRE(::mkfifo(metrics_file.c_str(), 0600) == 0); }},
      {"a folder", [&] { fs::create_directory(metrics_file); }},
      {"a link to a device", [&] { fs::create_symlink("/dev/zero", metrics_file); }},
      {"a link to nothing", [&] { fs::create_symlink(folder / "nothing", metrics_file); }},
      {"a file that cannot be read", [&] { fs::create_symlink("/proc/self/mem", metrics_file); }},
  };
  for (const Row& row : rows) {
    INFO(row.what);
    row.make();
    const Outcome outcome = in_bash(in_time, FAQ_TRAIN, resumed);
    INFO(outcome.err);
    CHECK(outcome.code == 74);
    CHECK(outcome.err.find("metrics.jsonl") != std::string::npos);
    CHECK(fs::is_symlink(fs::symlink_status(metrics_file)) + fs::exists(metrics_file) > 0);
    fs::remove(metrics_file);
  }
  // Lines that are none of ours stay; the last one may be what a killed run had begun to write.
  const std::string foreign =
      "1\n\"step\"\n[2]\n{\"step\":\"x\"}\n{\"step\":null}\n{}\n{\"step\":1e99}\n\xff\n";
  write_file(metrics_file, file_bytes(folder / "kept") + foreign + "{\"step\":99,\"lo");
  require_done(in_bash(in_time, FAQ_TRAIN, resumed));
  std::string lines = file_bytes(metrics_file);
  const auto at = lines.find(foreign);
  REQUIRE(at != std::string::npos);
  write_file(metrics_file, lines.erase(at, foreign.size()));
  CHECK(steps_of(folder / "run") == count_to(1, 20));
}

TEST_CASE("a fault of the disk is noticed by those who read text", "[process]") {
  const std::string network = (finished_run("faq") / "integer.safetensors").string();
  const Refusal rows[] = {
      {"config", FAQ_TRAIN, {"--config", "/proc/self/mem"}, 74, "reading failed: Input/output error"},
      {"class names",
       FAQ_EVAL,
       {"--weights", network, "--data-path", tiny_images().string(), "--threads", "1", "--per-class",
        "--class-names", "/proc/self/mem"},
       74,
       "reading failed: Input/output error"},
  };
  for (const Refusal& row : rows) check_refused(row);
}

TEST_CASE("too few descriptors are no bug of ours", "[process]") {
  if (FAQ_SANITIZED) {
    WARN("the sanitizer looks at types through a pipe, for which there is no descriptor");
    return;
  }
  const TemporaryFolder folder;
  const std::string network = (finished_run("faq") / "integer.safetensors").string();
  for (int most = 3; most < 14; ++most) {
    INFO(most);
    const std::string limited = concat("ulimit -n ", most, "; exec \"$0\" \"$@\"");
    for (const auto& [program, arguments] :
         {std::pair(FAQ_TRAIN, training(folder / std::to_string(most), {"--epochs", "0"})),
          std::pair(FAQ_EVAL,
                    Words{"--weights", network, "--data-path", tiny_images().string(), "--threads", "1"})}) {
      const Outcome outcome = in_bash(limited, program, arguments);
      INFO(program << ": " << outcome.err);
      // 127: the loader finds no libraries.
      CHECK((outcome.code == 0 || outcome.code == 74 || outcome.code == 71 || outcome.code == 127));
    }
  }
}

TEST_CASE("names do nothing to a terminal, and JSON stays JSON", "[process]") {
  const TemporaryFolder folder;
  write_data_set(folder / "data", 60, 30);
  const std::string strange = "\x1b[31mred\nline", no_text = strange + "\xff";
  for (const char* split : {"train", "val"})
    fs::rename(folder / "data" / split / "across", folder / "data" / split / no_text);
  const std::string data = (folder / "data").string(), run = (folder / ("run" + no_text)).string();
  require_done(run_program(FAQ_TRAIN, {"--data-path", data, "--output-dir", run, "--epochs", "1", "-b", "20",
                                       "--scheme", "faq", "--threads", "1", "-j", "1", "--json"}));
  const Words eval{"--weights",  run + "/integer.safetensors", "--data-path", data, "--threads", "1",
                   "--per-class"};
  const Outcome table = run_program(FAQ_EVAL, eval);
  require_done(table);
  for (const std::string& line : lines_of(table.out)) CHECK(is_line_for_terminals(line));
  CHECK(table.out.find("\\x1b[31mred\\nline") != std::string::npos);
  const Outcome as_json = run_program(FAQ_EVAL, eval + Words{"--json"});
  require_done(as_json);
  CHECK(nlohmann::json::parse(as_json.out)["classes"].size() == 3);
  const std::string file = (folder / ("no" + no_text)).string();
  struct Row {
    const char* program;
    Words arguments;
  };
  const Row rows[] = {
      {FAQ_TRAIN, {"--config", file}},
      {FAQ_TRAIN, {"--data-path", file, "--output-dir", run + "2"}},
      {FAQ_TRAIN, {"--data-path", data, "--output-dir", run, "--epochs", "1"}},
      {FAQ_TRAIN, {"--" + strange, "1"}},
      {FAQ_TRAIN, {strange}},
      {FAQ_TRAIN, {"--model", strange}},
      {FAQ_EVAL, {"--weights", file, "--data-path", data}},
      {FAQ_EVAL, {"--weights", run + "/integer.safetensors", "--predict", file}},
      {FAQ_BENCH, {"--mode", strange}},
      {FAQ_BENCH, {"--steps", std::string(4000, '\n')}},
      {FAQ_EVAL, {"--weights", std::string(4000, 'x'), "--data-path", data}},
  };
  for (const Row& row : rows) {
    INFO(row.arguments.front());
    const Outcome outcome = run_program(row.program, row.arguments);
    INFO(outcome.err);
    CHECK((outcome.code >= 64 && outcome.code <= 66));
    REQUIRE(lines_of(outcome.err).size() == 1);
    CHECK(is_line_for_terminals(lines_of(outcome.err)[0]));
    CHECK(outcome.err.size() < 600);
  }
}

TEST_CASE("quiet hides progress, not warnings", "[process]") {
  const TemporaryFolder folder;
  const Outcome plain = train_by_program(folder / "run", {"--quiet", "--checkpoint-interval", "5"});
  require_done(plain);
  CHECK(plain.err.empty());
  write_file(folder / "run" / "checkpoint-99.safetensors", "damaged");
  const Outcome fallen_back = train_by_program(folder / "run", {"--quiet", "--resume", "auto"});
  require_done(fallen_back);
  CHECK(fallen_back.err.find("warning: ignoring an unreadable checkpoint") != std::string::npos);
  write_data_set(folder / "data", 60, 30);
  write_file(fs::directory_iterator(folder / "data" / "val" / "down")->path(), "no image");
  const Outcome skipped = run_program(
      FAQ_TRAIN, {"--data-path", (folder / "data").string(), "--output-dir", (folder / "skips").string(),
                  "-b", "20", "--threads", "1", "-j", "1", "--skip-bad", "1", "--quiet"});
  require_done(skipped);
  CHECK(skipped.err.find("warning: skipped ") != std::string::npos);
  for (const std::string& line : lines_of(skipped.err)) CHECK(line.starts_with("warning: "));
}

TEST_CASE("what schedulers send ends a run that goes on with the same bits", "[process]") {
  const TemporaryFolder whole, parts;
  require_done(train_by_program(whole.path(), faq_options));
  int step = 2;
  for (const int signal : {SIGHUP, SIGXCPU, SIGUSR1, SIGUSR2, SIGQUIT, SIGALRM, SIGPWR, SIGINT, SIGTERM}) {
    INFO(signal);
    if (step > 18) {
      WARN("the run before went on for too long: the machine is busy");
      break;
    }
    Process process(FAQ_TRAIN, training(parts.path(), faq_options + Words{"--resume", "auto"}));
    REQUIRE(process.wait_until([&] { return reached(parts.path(), step); }));
    process.send(signal);
    const Outcome outcome = process.wait();
    INFO(outcome.err);
    CHECK(outcome.signal == 0);
    REQUIRE(outcome.code == 75);
    step = steps_of(parts.path()).back() + 2;
  }
  require_done(train_by_program(parts.path(), faq_options + Words{"--resume", "auto"}));
  check_same_run(parts.path(), whole.path(), 20);
}

TEST_CASE("a hang-up that nohup ignores stays ignored", "[process]") {
  struct Row {
    const char* what;
    const char* preload;
  };
  for (const Row& row : {Row{"as nohup leaves it", ""},
                         Row{"and a library has a handler of its own", "LD_PRELOAD=" FAQ_HANG_UP_HANDLER}}) {
    INFO(row.what);
    if (FAQ_SANITIZED && *row.preload != '\0') continue;  // a sanitizer's library wants to be the first
    const TemporaryFolder output;
    const std::string command = concat("trap '' HUP; exec env ", row.preload, " \"$0\" \"$@\"");
    Process process("/bin/bash", Words{"-c", command, FAQ_TRAIN} + training(output.path()));
    REQUIRE(process.wait_until([&] { return reached(output.path(), 2); }));
    process.send(SIGHUP);
    require_done(process.wait());
  }
}

TEST_CASE("a signal before the first step ends with the code for once more", "[process]") {
  const TemporaryFolder folder;
  // Of one that comes while the loader reads the libraries it dies, as every program.
  for (const int signal : {SIGTERM, SIGHUP, SIGUSR2}) {
    for (int delay = 0; delay < 24; delay += 2) {
      INFO(signal << " after " << delay << " ms");
      Process process(FAQ_TRAIN, training(folder / concat(signal, "-", delay)));
      REQUIRE(process.wait_until([&] { return process.holds(fs::canonical(FAQ_TRAIN).string(), signal); }));
      std::this_thread::sleep_for(std::chrono::milliseconds(delay));
      process.send(signal);
      const Outcome outcome = process.wait();
      INFO(outcome.err);
      CHECK(outcome.signal == 0);
      CHECK(outcome.code == 75);
    }
  }
}

TEST_CASE("a finished run can be made longer where its schedule permits it", "[process]") {
  struct Row {
    const char* what;
    Words options, shorter, longer;
    const char* refused;  ///< null: allowed
  };
  const Words one{"--epochs", "1"}, two{"--epochs", "2"};
  const Row rows[] = {
      {"a constant rate", {}, one, two, nullptr},
      {"steps, an average, warm-up",
       {"--lr-scheduler", "step", "--lr-step-size", "1", "--model-ema", "--lr-warmup-epochs", "0.5"},
       one,
       two,
       nullptr},
      {"integers, scales never held",
       faq_options + Words{"--hold-weight-scales", "1", "--lr-scheduler", "exponential"}, one, two, nullptr},
      {"the last of two phases",
       {"--scheme", "faq", "--bits-schedule", "8,4", "--hold-weight-scales", "0", "--calibration-batches",
        "2"},
       {"--phase-epochs", "1,1"},
       {"--epochs", "3", "--phase-epochs", "1,2"},
       nullptr},
      {"cosine", {"--lr-scheduler", "cosine"}, one, two, "--lr-scheduler cosine falls to 0"},
      {"scales held", faq_options, one, two, "--hold-weight-scales"},
      {"phases of equal shares",
       {"--scheme", "faq", "--bits-schedule", "8,4", "--hold-weight-scales", "0", "--calibration-batches",
        "2"},
       two,
       {"--epochs", "4"},
       "--phase-epochs"},
      {"statistics frozen", {"--freeze-batch-norm-stats", "0.5"}, one, two, "--freeze-batch-norm-stats"},
      {"nothing was trained", {}, {"--epochs", "0"}, two, "no epochs"},
      {"fewer epochs than are done", {}, two, one, "2 epochs are done"},
  };
  for (const Row& row : rows) {
    INFO(row.what);
    const TemporaryFolder folder;
    require_done(train_by_program(folder / "parts", row.options + row.shorter));
    const Outcome longer =
        train_by_program(folder / "parts", row.options + row.longer + Words{"--resume", "auto"});
    INFO(longer.err);
    if (row.refused != nullptr) {
      CHECK(longer.code == 65);
      CHECK(longer.err.find(row.refused) != std::string::npos);
      continue;
    }
    require_done(longer);
    require_done(train_by_program(folder / "whole", row.options + row.longer));
    for (const char* name : {"last.safetensors", "best.safetensors"})
      CHECK(tensor_difference(folder / "parts" / name, folder / "whole" / name).empty());
    CHECK(steps_of(folder / "parts") == steps_of(folder / "whole"));
    CHECK(epochs_of(folder / "parts") == epochs_of(folder / "whole"));
    const auto config = [&](const char* run) {
      nlohmann::json options = nlohmann::json::parse(file_bytes(folder / run / "config.json"));
      options.erase("output-dir");
      return options;
    };
    CHECK(config("parts") == config("whole"));
  }
}

TEST_CASE("statistics of batch-norm stay for the share of a phase that was asked for", "[process]") {
  const TemporaryFolder folder;
  // All running statistics, one after the other.
  const auto statistics = [&](const std::string& file) {
    std::vector<float> all;
    for (const auto& [name, tensor] : read_safetensors(folder / file).tensors)
      if (!name.starts_with("ema") && (name.ends_with("running_mean") || name.ends_with("running_var")))
        all.insert(all.end(), tensor.span<float>().begin(), tensor.span<float>().end());
    REQUIRE(!all.empty());
    return all;
  };
  const auto run = [&](const std::string& name, const Words& options) {
    require_done(train_by_program(folder / name,
                                  options + Words{"--checkpoint-interval", "1", "--checkpoint-hist", "30"}));
  };
  const auto at = [&](const std::string& name, int step) {
    return statistics(step % 10 == 0 ? name + "/last.safetensors"
                                     : concat(name, "/checkpoint-", step, ".safetensors"));
  };
  run("start", {"--epochs", "1"});
  const Words from{"--weights", (folder / "start" / "best.safetensors").string()};
  struct Row {
    const char* name;
    Words options;
    int first;  ///< step that leaves them as they are
  };
  const Row rows[] = {
      {"never", {"--freeze-batch-norm-stats", "0"}, 21},
      {"half", {"--freeze-batch-norm-stats", "0.5"}, 11},
      {"fifth", {"--freeze-batch-norm-stats", "0.3", "--grad-accum-steps", "1"}, 15},
      {"integers", faq_options + Words{"--freeze-batch-norm-stats", "0.25", "--batch-norm-batches", "2"}, 16},
      {"always", {"--freeze-batch-norm-stats", "1"}, 1},
  };
  for (const Row& row : rows) {
    INFO(row.name);
    run(row.name, from + row.options);
    const auto last = at(row.name, 20);
    if (row.first <= 1) CHECK(last == statistics("start/best.safetensors"));
    for (const int step : {3, 9, 11, 13, 14, 15, 16, 18, 19}) {
      INFO(step);
      const bool stays = step + 1 >= row.first;
      CHECK((at(row.name, step) == last) == stays);
    }
    // The weights go on to learn.
    CHECK(!tensor_difference(folder / row.name / "last.safetensors",
                             folder / row.name / "checkpoint-19.safetensors")
               .empty());
  }
}
