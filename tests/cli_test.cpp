// The programs as users meet them: exit codes, what is said where.
#include "core/cpu.h"
#include "core/text.h"
#include "nn/models.h"
#include "tests/image_files.h"
#include "tests/programs.h"

using namespace faq;
using namespace faq::testing;
using nlohmann::json;

TEST_CASE("corrupt images stop a run, or are skipped and counted", "[cli]") {
  const fs::path run = finished_run("faq");
  const std::string network = (run / "integer.safetensors").string();
  struct Damage {
    const char* what;
    std::function<void(const fs::path&)> damage;
  };
  const auto replace = [](const fs::path& file, const auto& make) {
    fs::remove(file);
    make(file);
  };
  const Damage damages[] = {
      {"truncated",
       [](const fs::path& file) {
         const std::string bytes = file_bytes(file);
         write_file(file, bytes.substr(0, bytes.size() / 2));
       }},
      {"empty", [](const fs::path& file) { write_file(file, ""); }},
      {"text", [](const fs::path& file) { write_file(file, "not a picture"); }},
      {"corrupt",
       [](const fs::path& file) {
         std::string bytes = file_bytes(file);
         for (std::size_t i = bytes.size() / 2; i < bytes.size() / 2 + 20; ++i) bytes[i] ^= 0x5A;
         write_file(file, bytes);
       }},
      {"a link to nothing",
       [&](const fs::path& file) { replace(file, [](auto& f) { fs::create_symlink("nothing", f); }); }},
      {"a folder", [&](const fs::path& file) { replace(file, [](auto& f) { fs::create_directory(f); }); }},
  };
  for (const Damage& d : damages) {
    INFO(d.what);
    const TemporaryFolder folder;
    write_data_set(folder.path(), 60, 30);
    std::vector<fs::path> bad;  // the last one of each split
    for (const char* split : {"train", "val"}) {
      fs::path last;
      for (const auto& entry : fs::directory_iterator(folder / split / "down"))
        if (last.empty() || entry.path() > last) last = entry.path();
      d.damage(last);
      bad.push_back(last);
    }
    const Words eval{"--weights", network, "--data-path", folder.path().string(), "--threads", "1"};
    check_refused({"evaluation", FAQ_EVAL, eval + Words{"--quiet"}, 65, bad[1].filename().c_str()});
    const json result = result_of(eval + Words{"--skip-bad", "1"});
    CHECK(result["images"] == 29);
    CHECK(result["skipped"] == 1);
    const Words train{"--data-path", folder.path().string(),
                      "-b",          "20",
                      "--epochs",    "1",
                      "--threads",   "1",
                      "-j",          "1",
                      "--augment",   "none"};
    const Outcome stopped = run_program(FAQ_TRAIN, train + Words{"--output-dir", (folder / "a").string()});
    INFO(stopped.err);
    CHECK(stopped.code == 65);
    REQUIRE(!stopped.err.empty());
    CHECK(stopped.err.find(bad[1].filename().string()) != std::string::npos);
    const Outcome skipped = run_program(
        FAQ_TRAIN, train + Words{"--output-dir", (folder / "b").string(), "--skip-bad", "1", "--json"});
    INFO(skipped.err);
    REQUIRE(skipped.code == 0);
    CHECK(json::parse(skipped.out)["last"]["images"] == 29);
  }
}

TEST_CASE("an evaluation of no images has no result", "[cli]") {
  const TemporaryFolder folder;
  write_data_set(folder.path(), 6, 6);
  const std::string network = (finished_run("faq") / "integer.safetensors").string();
  for (const auto& entry : fs::recursive_directory_iterator(folder / "val"))
    if (entry.is_regular_file()) write_file(entry.path(), "no image");
  for (const Words& task : {Words{}, Words{"--confusion"}, Words{"--compare", network}}) {
    check_refused({"no images", FAQ_EVAL,
                   Words{"--weights", network, "--data-path", folder.path().string(), "--threads", "1",
                         "--skip-bad", "6", "--quiet"} +
                       task,
                   65, "none of the 6 can be used"});
  }
}

TEST_CASE("an image nobody needs to look at may be corrupt", "[cli]") {
  const TemporaryFolder folder;
  write_data_set(folder.path(), 60, 30);
  fs::path first;
  for (const auto& entry : fs::directory_iterator(folder / "val" / "across"))
    if (first.empty() || entry.path() < first) first = entry.path();
  write_file(first, "no image");
  const Words train{
      "--data-path", folder.path().string(), "-b", "20",    "--epochs", "1", "--threads", "1", "-j",
      "1",           "--skip-bad",           "1",  "--json"};
  for (const Words& crop : {Words{}, Words{"--train-crop-size", "20"}}) {
    INFO(crop.size());
    const Outcome outcome = run_program(
        FAQ_TRAIN, train + crop + Words{"--output-dir", (folder / std::to_string(crop.size())).string()});
    INFO(outcome.err);
    REQUIRE(outcome.code == 0);
    const json result = json::parse(outcome.out);
    CHECK(result["last"]["images"] == 29);
    CHECK(result["best"]["images"] == 29);
    CHECK(result["skipped"] == 1);
    // Said once, by name, and counted in the summary.
    const std::string said = "skipped " + first.string();
    CHECK(outcome.err.find(said) != std::string::npos);
    CHECK(outcome.err.find(said) == outcome.err.rfind(said));
    const auto summary = lines_of(file_bytes(folder / std::to_string(crop.size()) / "summary.csv"));
    const std::vector<std::string> columns = split(summary.front()), last = split(summary.back());
    REQUIRE(columns.size() == last.size());
    for (std::size_t i = 0; i < columns.size(); ++i)
      if (columns[i] == "skipped") CHECK(last[i] == "1");
    CHECK(columns.back() == "recoverable_faults");
    CHECK(last.back() == "0");
  }
}

TEST_CASE("images with recoverable faults are used as they are, counted and reported", "[cli]") {
  const std::string network = (finished_run("faq") / "integer.safetensors").string();
  const TemporaryFolder folder;
  write_data_set(folder / "whole", 60, 30);
  write_data_set(folder / "faulty", 60, 30);
  for (const int i : {60, 71, 89}) {  // in val/: one image of each class
    const char* names[] = {"across", "down", "slanted"};
    const Image image = pattern(i % 3, 16, static_cast<std::uint64_t>(i));
    write_file(folder / "faulty" / "val" / names[i % 3] / concat(1000 + i, ".png"), png(image, 5));
  }
  const auto eval = [&](const char* data) {
    return Words{"--weights", network, "--data-path", (folder / data).string(), "--threads", "1"};
  };
  const json whole = result_of(eval("whole")), faulty = result_of(eval("faulty"));
  CHECK(whole["recoverable_faults"] == 0);
  CHECK(faulty["recoverable_faults"] == 3);
  CHECK(faulty["skipped"] == 0);
  for (const char* same : {"images", "top1", "loss"}) CHECK(faulty[same] == whole[same]);
  const Outcome text = run_program(FAQ_EVAL, eval("faulty"));
  CHECK(text.out.find("\nimages with recoverable faults: 3\n") != std::string::npos);
  CHECK(run_program(FAQ_EVAL, eval("whole")).out.find("faults") == std::string::npos);

  const std::string run = (folder / "run").string();
  const Words train{
      "--data-path", (folder / "faulty").string(), "-b", "20", "--epochs", "1", "--threads", "1"};
  const Outcome trained = run_program(FAQ_TRAIN, train + Words{"--output-dir", run, "--json"});
  INFO(trained.err);
  REQUIRE(trained.code == 0);
  CHECK(json::parse(trained.out)["recoverable_faults"] == 3);
  const std::string said = "images with recoverable faults: 3, one of them ";
  CHECK(trained.err.find(said) != std::string::npos);
  CHECK(trained.err.find(said) == trained.err.rfind(said));
  const auto summary = lines_of(file_bytes(fs::path(run) / "summary.csv"));
  CHECK(split(summary.front()).back() == "recoverable_faults");
  CHECK(split(summary.back()).back() == "3");
}

TEST_CASE("a prediction depends on nothing but the image", "[cli]") {
  const std::string network = (finished_run("faq") / "integer.safetensors").string();
  const TemporaryFolder folder;
  const Chunk end{"IEND", ""};
  write_file(folder / "palette.png",
             png_file({png_header(16, 16, 8, 3),
                       {"PLTE", "abcdef"},
                       {"IDAT", deflated(std::string(17 * 16, '\2').replace(0, 1, 1, '\0'))},
                       end}));
  std::string no_tables;
  for (const std::string& part : jpeg_parts(jpeg_file({})))
    if (part[1] != '\xC4' && part[1] != '\xDB') no_tables += part;
  write_file(folder / "no_tables.jpg", no_tables);
  write_file(folder / "whole.jpg", jpeg_file({}));
  for (const char* name : {"palette.png", "no_tables.jpg"}) {
    INFO(name);
    const Outcome outcome =
        run_program(FAQ_EVAL, {"--weights", network, "--quiet", "--predict", (folder / "whole.jpg").string(),
                               (folder / name).string()});
    INFO(outcome.err);
    CHECK(outcome.code == 65);
    CHECK(outcome.err.find(name) != std::string::npos);
  }
}

TEST_CASE("results that cannot be written are an error", "[cli]") {
  if (!fs::exists("/dev/full")) {
    WARN("no /dev/full: not tested");
    return;
  }
  const Words eval{"--weights",   (finished_run("faq") / "integer.safetensors").string(),
                   "--data-path", tiny_images().string(),
                   "--threads",   "1"};
  struct {
    const char* program;
    Words arguments;
  } const rows[] = {
      {FAQ_TRAIN, {"--help"}},
      {FAQ_TRAIN, {"--version"}},
      {FAQ_TRAIN, {"--list-models"}},
      {FAQ_EVAL, {"--help"}},
      {FAQ_EVAL, {"--version"}},
      {FAQ_EVAL, eval + Words{"--quiet"}},
      {FAQ_EVAL, eval + Words{"--quiet", "--json"}},
      {FAQ_TRAIN, {"--dry-run", "--data-path", tiny_images().string()}},
  };
  for (const auto& row : rows) {
    INFO(row.program << " " << row.arguments[0]);
    const Outcome outcome = run_program(row.program, row.arguments, "/dev/full");
    INFO(outcome.err);
    CHECK(outcome.code == 74);
    CHECK(lines_of(outcome.err).size() == 1);
  }
}

TEST_CASE("memory that is not there ends a run in one line", "[cli]") {
  if (FAQ_SANITIZED) {
    WARN("sanitizers reserve more addresses than the limit");
    return;
  }
  // A shell sets the limit, in KB: half of what the weights want.
  const Outcome outcome =
      run_program("/bin/sh", {"-c", "ulimit -v 300000; exec \"$0\" \"$@\"", FAQ_TRAIN, "--model", "vgg16_bn",
                              "--data-path", tiny_images().string(), "--dry-run", "--threads", "1", "-j", "0",
                              "-b", "2"});
  INFO(outcome.err);
  CHECK(outcome.signal == 0);
  CHECK(outcome.code == 71);
  CHECK(outcome.out.empty());
  CHECK(outcome.err == "faq-train: out of memory\n");
  // Wherever it ends: oneDNN writes the code of kernels into memory that it did not get.
  const std::string network = (finished_run("faq") / "integer.safetensors").string();
  for (int kilobytes = 80'000; kilobytes <= 200'000; kilobytes += 10'000) {
    const Outcome limited = run_program(
        "/bin/sh", {"-c", concat("ulimit -v ", kilobytes, "; exec \"$0\" \"$@\""), FAQ_EVAL, "--weights",
                    network, "--data-path", tiny_images().string(), "--threads", "1", "-j", "0"});
    INFO(kilobytes << " kB: " << limited.err);
    CHECK(limited.signal == 0);
    CHECK(
        (limited.code == 0 || limited.code == 71 || limited.code == 127));  // 127: not even the libraries fit
  }
}

TEST_CASE("results are on stdout, everything else on stderr", "[cli]") {
  struct {
    const char* program;
    Words arguments;
    std::vector<const char*> parts;
  } const rows[] = {
      {FAQ_TRAIN, {"--help"}, {"--batch-size", "--weight-decay", "--list-models", "--resume", "--bits"}},
      {FAQ_TRAIN,
       {"--version"},
       {"faq " FAQ_VERSION " (", FAQ_MPI_BUILT ? "MPI" : "without MPI", "revision "}},
      {FAQ_EVAL, {"--help"}, {"--weights", "--split", "--json"}},
      {FAQ_EVAL,
       {"--version"},
       {"faq " FAQ_VERSION " (", FAQ_MPI_BUILT ? "MPI" : "without MPI", "revision "}},
      {FAQ_TRAIN, {"--list-models"}, {"resnet20", "resnet110", "269722"}},
      {FAQ_TRAIN,
       {"--dry-run", "--data-path", tiny_images().string(), "--scheme", "faq", "--bits", "4", "--threads",
        "1"},
       {"60 training and 30 validation images", "60 images a step, 1 steps per epoch",
        "epochs 1 to 1: weights 4 bits, activations 4 bits", "layer1.0.conv1", "u4", "s8"}},
      {FAQ_TRAIN,
       {"--dry-run", "--data-path", tiny_images().string(), "--scheme", "faq", "--bits", "4",
        "--residual-bits", "8"},
       {"weights 4 bits, activations 4 bits (8 on residual connections)"}},
      {FAQ_TRAIN,
       {"--dry-run", "--data-path", tiny_images().string(), "--scheme", "faq", "--stages", "weights,both",
        "--bits-schedule", "8/8,4/8", "--epochs", "7", "--lr", "0.5", "-b", "10", "--grad-accum-steps", "3",
        "--stochastic-precision", "--model-ema"},
       {"30 images a step (3 shards of 10), 2 steps per epoch", "rises from 0.5",
        "warning: shards of 10 images: batch-norm takes its statistics from each shard alone",
        "moving average, decay 0.9998",
        "epochs 1 to 2: weights 8 bits, activations in floating point; learning rate 0.5 to 0.5",
        "epochs 3 to 4: weights 8 bits, activations 8 bits",
        "epochs 5 to 7: weights 4 bits, activations 8 bits"}},
      {FAQ_TRAIN,
       {"--dry-run", "--data-path", tiny_images().string(), "--preset", "fp32", "--epochs", "0"},
       {"no epochs: floating point"}},
  };
  for (const auto& row : rows) {
    INFO(row.arguments[0]);
    const Outcome outcome = run_program(row.program, row.arguments);
    CHECK(outcome.code == 0);
    CHECK(outcome.err.empty());
    for (const char* part : row.parts) {
      INFO(part);
      CHECK(outcome.out.find(part) != std::string::npos);
    }
  }
  const Outcome models = run_program(FAQ_TRAIN, {"--list-models", "--json"});
  REQUIRE(models.code == 0);
  const json zoo = json::parse(models.out);
  REQUIRE(zoo.size() == list_models().size());
  CHECK(zoo[0]["name"] == "resnet20");
  CHECK(zoo[0]["parameters"] == 269'722);
  const Outcome plan = run_program(FAQ_TRAIN, {"--dry-run", "--json", "--data-path", tiny_images().string(),
                                               "--preset", "faq-4bit", "-b", "20"});
  REQUIRE(plan.code == 0);
  const json j = json::parse(plan.out);
  CHECK(j["steps_per_epoch"] == 3);
  CHECK(j["classes"] == 3);
  CHECK(j["notes"] == json::array());
  REQUIRE(j["layers"].size() == 24);  // with two shortcuts and the pooling
  std::int64_t macs = 0;
  for (const json& layer : j["layers"]) macs += layer["macs"].get<std::int64_t>();
  CHECK(macs == (40'551'040 - 640) / 4 + 64 * 3);  // a quarter of the pixels, three classes
  CHECK(j["macs"] == macs);
  const json& conv = j["layers"][2];
  CHECK(conv["name"] == "layer1.0.conv1");
  CHECK(conv["output"] == json{16, 16, 16});
  CHECK(conv["macs"] == 16 * 16 * 16 * 16 * 9);
  CHECK(conv["weight_bits"] == 4);
  CHECK(conv["weight_bytes"] == 16 * 16 * 9 / 2 + 2 * 16 * 4);
  CHECK(conv["act_max"] == 15 * conv["act_scale"].get<double>());
  CHECK(conv["activation_bytes"] == 16 * 16 * 16);
  CHECK(conv["calibrated_max"].get<double>() > 0);
  REQUIRE(j["phases"].size() == 1);
  CHECK(j["phases"][0]["end"] == 110);
  CHECK(j["phases"][0]["lr_first"] == 0.0015);
  CHECK(j["phases"][0]["lr_last"].get<double>() == Approx(0.0015 * std::pow(0.936, 109)));
  CHECK(j["config"]["lr"] == 0.0015);
  CHECK(j["config"]["batch-size"] == 20);
  CHECK(j["config"]["weight-bits"] == 4);

  const TemporaryFolder folder;
  for (const bool quiet : {false, true}) {
    const Outcome outcome =
        run_program(FAQ_TRAIN, Words{"--data-path", tiny_images().string(), "--output-dir",
                                     (folder / (quiet ? "q" : "n")).string(), "--epochs", "1", "-b", "20",
                                     "--json", "--threads", "1"} +
                                   (quiet ? Words{"--quiet"} : Words{}));
    REQUIRE(outcome.code == 0);
    CHECK(lines_of(outcome.out).size() == 1);
    CHECK(json::parse(outcome.out).is_object());
    CHECK(outcome.err.empty() == quiet);
    CHECK(outcome.err.find('\x1b') == std::string::npos);  // not a terminal: plain lines
  }
}

TEST_CASE("faq-bench accounts for the time it measures", "[cli]") {
  for (const char* mode : {"train", "infer"}) {
    for (const char* bits : {"4", "8", "32"}) {
      INFO(mode << " at " << bits);
      const Outcome outcome =
          run_program(FAQ_BENCH, {"--mode", mode, "--model", "resnet20", "--bits", bits, "-b", "4", "--steps",
                                  "4", "--threads", "1", "--layers", "--json"});
      INFO(outcome.err);
      REQUIRE(outcome.code == 0);
      const json result = json::parse(outcome.out);
      CHECK(result["mode"] == mode);
      CHECK(result["bits"] == std::stoi(bits));
      CHECK(result["scheme"] == (std::string(bits) == "32" ? "none" : "faq"));
      CHECK(result["threads"] == 1);
      CHECK(result["images_per_s"].get<double>() == Approx(4 / (result["step_ms"].get<double>() / 1e3)));
      CHECK(result["roofline_ratio"].get<double>() > 0);
      CHECK(result["roofline_ratio"].get<double>() <= 1);
      CHECK(result["peak_bytes"].get<std::int64_t>() > 0);
      double split = 0, alone = 0;
      for (const auto& [name, ms] : result["split"].items()) split += ms.get<double>();
      CHECK(split > 0.5 * result["step_ms"].get<double>());
      std::int64_t calls = 0;
      for (const json& layer : result["layers"]) {
        alone += layer["calls"].get<double>() * layer["ms"].get<double>();
        calls += layer["calls"].get<std::int64_t>();
      }
      // 19 convolutions and the classifier, each forward and twice backward; images want no gradient. In
      // 8-bit integers the gradient of the data of the two strided convolutions of 3×3 has four phases each.
      const bool is_float = std::string(bits) == "32";
      const int phases = is_float ? 0 : 2 * 3;
      const int convolutions = std::string(mode) == "train" ? 20 + 20 + 19 + phases : 20;
      CHECK(calls >= convolutions);
      // Without VNNI those of weights of 8 bits may take two.
      if (is_float || has_vnni()) CHECK(calls == convolutions);
      CHECK(alone == Approx(result["roofline_ms"].get<double>()));
    }
  }
  const Outcome lsq =
      run_program(FAQ_BENCH, {"--scheme", "lsq", "--weight-scales", "channel", "--bits", "4",
                              "--residual-bits", "8", "-b", "4", "--steps", "2", "--threads", "1", "--json"});
  INFO(lsq.err);
  REQUIRE(lsq.code == 0);
  CHECK(json::parse(lsq.out)["scheme"] == "lsq");
  CHECK(json::parse(lsq.out)["residual_bits"] == 8);
  const Outcome load = run_program(FAQ_BENCH, {"--mode", "load", "--data-path", tiny_images().string(), "-b",
                                               "10", "-j", "1", "--steps", "2", "--json"});
  INFO(load.err);
  REQUIRE(load.code == 0);
  CHECK(json::parse(load.out)["images_per_s"].get<double>() > 0);
}
