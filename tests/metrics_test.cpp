#include "tests/run_testing.h"

using namespace faq;
using namespace faq::testing;

TEST_CASE("no line of metrics.jsonl comes twice", "[resume]") {
  const TemporaryFolder folder;
  require_done(train_by_program(folder / "run", {"--scheme", "none", "--epochs", "1"}));
  // As when the run was killed between writing the line of an epoch and saving it: the checkpoint is of the
  // same step, and the epoch is not in it.
  NamedTensors last = read_safetensors(folder / "run" / "last.safetensors");
  json progress = json::parse(last.metadata.at("progress"));
  REQUIRE(progress["epoch"] == 1);
  progress["epoch"] = 0;
  progress["step_in_epoch"] = progress["step"];
  progress["history"].erase(1);
  progress["images"] = 200;
  progress["best_top1"] = -1;
  progress["best_epoch"] = -1;
  last.metadata["progress"] = progress.dump();
  write_safetensors(folder / "run" / "last.safetensors", last);
  require_done(train_by_program(folder / "run", {"--scheme", "none", "--epochs", "1", "--resume", "auto"}));
  CHECK(epochs_of(folder / "run") == std::vector{0, 1});
  CHECK(steps_of(folder / "run") == count_to(1, 10));
}

TEST_CASE("a checkpoint whose steps are not those of its epochs is refused", "[resume]") {
  const TemporaryFolder folder;
  const Words words{"--scheme", "none", "--epochs", "1"};
  require_done(train_by_program(folder / "run", words));
  const fs::path file = folder / "run" / "last.safetensors";
  const NamedTensors whole = read_safetensors(file);
  for (const auto& [key, value] :
       {std::pair("step", 9999999), std::pair("step", 0), std::pair("step_in_epoch", 1)}) {
    INFO(key << " " << value);
    NamedTensors last = whole;
    json progress = json::parse(last.metadata.at("progress"));
    progress[key] = value;
    last.metadata["progress"] = progress.dump();
    write_safetensors(file, last);
    const Outcome outcome = train_by_program(folder / "run", words + Words{"--resume", file.string()});
    CHECK(outcome.code == 65);
    CHECK(outcome.err.find(" steps are not ") != std::string::npos);
  }
}

TEST_CASE("a damaged line of metrics.jsonl stays where it is", "[resume]") {
  const TemporaryFolder folder;
  const Words words{"--scheme", "none", "--epochs", "2"};
  require_done(train_by_program(folder / "run", words));
  const std::string whole = file_bytes(folder / "run" / "metrics.jsonl");
  std::string damaged = whole;
  damaged[damaged.find("step")] = 'S';              // the first line is none of the run's
  damaged.replace(damaged.find('\n') + 1, 1, "[");  // the second one is no JSON
  write_file(folder / "run" / "metrics.jsonl", damaged + "{\"step\":21,\"ep");
  require_done(train_by_program(folder / "run", words + Words{"--resume", "auto"}));
  CHECK(file_bytes(folder / "run" / "metrics.jsonl") == damaged);
}
