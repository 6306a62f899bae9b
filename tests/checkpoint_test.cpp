#include "train/checkpoint.h"

#include <set>

#include "tests/testing.h"

using namespace faq;
using namespace faq::testing;

namespace {

NamedTensors contents_of(std::int64_t step) {
  NamedTensors contents;
  contents.add("w", Tensor::full({4}, static_cast<float>(step)));
  Progress progress;
  progress.step = step;
  contents.metadata["progress"] = to_json(progress).dump();
  return contents;
}

std::set<std::string> names_in(const fs::path& folder) {
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder))
    if (entry.path().filename() != ".lock") names.insert(entry.path().filename().string());
  return names;
}

// The step of the newest checkpoint, -1 when there is none; what was warned of.
struct Newest {
  std::int64_t step = -1;
  std::vector<std::string> warnings;
};
Newest newest(const CheckpointFolder& folder) {
  Newest result;
  const auto found = folder.newest([&](const std::string& text) { result.warnings.push_back(text); });
  if (found) result.step = static_cast<std::int64_t>(found->contents.find("w")->data<float>()[0]);
  return result;
}

void damage(const fs::path& file) {
  std::string bytes = file_bytes(file);
  bytes.back() ^= 1;
  write_file(file, bytes);
}

}  // namespace

TEST_CASE("the newest checkpoints are kept", "[checkpoint]") {
  struct Row {
    int keep;
    std::set<std::string> left;
  };
  const Row rows[] = {
      {0, {"last.safetensors"}},
      {1, {"checkpoint-100.safetensors"}},
      {2, {"checkpoint-100.safetensors", "checkpoint-20.safetensors"}},
      {9, {"checkpoint-100.safetensors", "checkpoint-20.safetensors", "checkpoint-9.safetensors"}},
  };
  for (const Row& row : rows) {
    INFO("keep " << row.keep);
    const TemporaryFolder temporary;
    const CheckpointFolder folder(temporary / "run", row.keep);
    CHECK(newest(folder).step == -1);
    for (const std::int64_t step : {9, 20, 100}) folder.save_step(contents_of(step), step);
    CHECK(names_in(temporary / "run") == row.left);
    CHECK(newest(folder).step == 100);
    CHECK(newest(folder).warnings.empty());
    folder.save_last(contents_of(120));
    CHECK(newest(folder).step == 120);
    folder.save_best(contents_of(999));
    CHECK(newest(folder).step == 120);  // the best one cannot be continued
  }
}

TEST_CASE("what is not a checkpoint is left alone", "[checkpoint]") {
  const TemporaryFolder temporary;
  const CheckpointFolder folder(temporary.path(), 1);
  const std::vector<std::string> others = {"checkpoint-.safetensors",
                                           "checkpoint-12x.safetensors",
                                           "checkpoint-1.5.safetensors",
                                           "checkpoint-99999999999999999999.safetensors",
                                           ".checkpoint-7.safetensors.tmp.1",
                                           "checkpoint-7.safetensors.old",
                                           "notes.txt",
                                           "my-checkpoint-8.safetensors"};
  for (const std::string& name : others) write_file(temporary / name, "something else");
  CHECK(newest(folder).step == -1);
  CHECK(newest(folder).warnings.empty());
  folder.save_step(contents_of(3), 3);
  folder.save_step(contents_of(4), 4);
  CHECK(newest(folder).step == 4);
  CHECK(newest(folder).warnings.empty());
  CHECK_FALSE(fs::exists(temporary / "checkpoint-3.safetensors"));
  for (const std::string& name : others) CHECK(fs::exists(temporary / name));
}

TEST_CASE("an unreadable checkpoint is passed over, loudly", "[checkpoint]") {
  const TemporaryFolder temporary;
  const CheckpointFolder folder(temporary.path(), 3);
  for (const std::int64_t step : {10, 20, 30}) folder.save_step(contents_of(step), step);
  folder.save_last(contents_of(5));
  damage(temporary / "checkpoint-30.safetensors");
  Newest found = newest(folder);
  CHECK(found.step == 20);
  REQUIRE(found.warnings.size() == 1);
  CHECK(found.warnings[0].find("checkpoint-30.safetensors") != std::string::npos);

  write_file(temporary / "checkpoint-20.safetensors", "");
  NamedTensors without = contents_of(10);
  without.metadata.erase("progress");
  write_safetensors(temporary / "checkpoint-10.safetensors", without);
  found = newest(folder);
  CHECK(found.step == 5);
  CHECK(found.warnings.size() == 3);

  const auto with = [](const char* key, const nlohmann::json& value) {
    nlohmann::json progress = to_json(Progress{});
    progress[key] = value;
    return progress.dump();
  };
  for (const std::string& progress :
       {std::string(""), std::string("{"), std::string("[]"), std::string(R"({"step": "ten"})"),
        std::string("{}"), with("step", 1e300), with("epoch", 1.5), with("images", -1), with("phase", 1e300),
        with("best_epoch", -2)}) {
    INFO(progress);
    without.metadata["progress"] = progress;
    write_safetensors(temporary / "last.safetensors", without);
    check_error(ErrorKind::bad_data, "none of 4 checkpoints can be read", [&] { newest(folder); });
  }

  CHECK(furthest_checkpoint(temporary.path()));  // by their headers alone
  for (const auto& entry : fs::directory_iterator(temporary.path()))
    if (entry.path().extension() == ".safetensors") write_file(entry.path(), "");
  check_error(ErrorKind::bad_data, "none of 4 checkpoints can be read",
              [&] { furthest_checkpoint(temporary.path()); });
  CHECK_FALSE(furthest_checkpoint(TemporaryFolder().path()));
}

TEST_CASE("a checkpoint of before there were phases is in its only one", "[checkpoint]") {
  nlohmann::json progress = to_json(Progress{});
  progress.erase("phase");
  CHECK(progress_in({{"progress", progress.dump()}}, "old").phase == 0);
}

TEST_CASE("a new checkpoint is never the one that is removed", "[checkpoint]") {
  // After a fall back (or --resume FILE) the run is behind checkpoints that it has left.
  const TemporaryFolder temporary;
  const CheckpointFolder folder(temporary.path(), 1);
  folder.save_step(contents_of(30), 30);
  damage(temporary / "checkpoint-30.safetensors");
  folder.save_last(contents_of(5));
  REQUIRE(newest(folder).step == 5);
  folder.save_step(contents_of(6), 6);
  CHECK(fs::exists(temporary / "checkpoint-6.safetensors"));
  CHECK(newest(folder).step == 6);
  folder.save_step(contents_of(7), 7);
  CHECK_FALSE(fs::exists(temporary / "checkpoint-6.safetensors"));
  CHECK(newest(folder).step == 7);
}

TEST_CASE("a folder has one owner at a time", "[checkpoint]") {
  const TemporaryFolder temporary;
  {
    const CheckpointFolder first(temporary.path(), 1);
    check_error(ErrorKind::usage, "another run is writing", [&] { CheckpointFolder(temporary.path(), 1); });
  }
  CHECK_NOTHROW(CheckpointFolder(temporary.path(), 1));
  write_file(temporary / "file", "x");
  check_error(ErrorKind::io, "creating the output folder",
              [&] { CheckpointFolder(temporary / "file" / "run", 1); });
}

TEST_CASE("progress survives a round trip", "[checkpoint]") {
  Progress p;
  p.epoch = 3;
  p.step_in_epoch = 7;
  p.step = 12345678901;
  p.best_top1 = 81.03;
  p.best_epoch = 2;
  p.loss_sum = 0.1 + 0.2;
  p.correct = 40;
  p.images = 50;
  p.history.push_back(
      {{"epoch", 1}, {"top1", 33.3}, {"top5", 50.5}, {"val_loss", 1.5}, {"raw_val_loss", nullptr}});
  const Progress q = progress_from_json(nlohmann::json::parse(to_json(p).dump()), "p");
  CHECK(to_json(q) == to_json(p));
  CHECK(q.loss_sum == p.loss_sum);
  CHECK(q.step == p.step);
}

TEST_CASE("a history that is none is refused before a run goes on", "[checkpoint]") {
  using nlohmann::json;
  const json row{{"epoch", 1}, {"top1", 33.3}, {"top5", 50.5}, {"val_loss", 1.5}};
  const auto with = [&](const char* key, const json& value) {
    json other = row;
    other[key] = value;
    return other;
  };
  json lacks = row;
  lacks.erase("top5");
  for (const json& history : {json(7), json{7}, json{json::array()}, json{lacks}, json{with("top1", "x")},
                              json{with("epoch", "z")}, json{with("epoch", -1)}, json{with("epoch", 1.5)},
                              json{with("val_loss", nullptr)}, json{with("lr", "x")}, json{row, row}}) {
    INFO(history);
    Progress p;
    p.history = history;
    CHECK_THROWS_WITH(progress_from_json(to_json(p), "p"), Catch::Contains("checkpoint p: history"));
  }
}

TEST_CASE("of a checkpoint its network, or the average", "[checkpoint]") {
  const auto value_of = [](const NamedTensors& network, const char* name) {
    REQUIRE(network.find(name));
    return network.find(name)->data<float>()[0];
  };
  NamedTensors contents = contents_of(1);
  contents.add("conv.quantizer", Tensor::full({4}, 2));
  contents.add("momentum/w", Tensor::full({4}, 3));
  const auto average = [&] { return average_in(contents, "file"); };
  CHECK_THROWS_WITH(average(), Catch::Contains("checkpoint file: no moving average"));

  contents.add("ema/w", Tensor::full({4}, 5));
  for (const bool averaged : {false, true}) {
    const NamedTensors network = averaged ? average() : network_in(contents);
    CHECK(network.tensors.size() == 2);
    CHECK(network.metadata == contents.metadata);
    CHECK(value_of(network, "w") == (averaged ? 5 : 1));
    CHECK(value_of(network, "conv.quantizer") == 2);
  }
  CHECK(value_of(contents, "w") == 1);

  contents.add("fc.weight", Tensor::full({4}, 7));
  CHECK_THROWS_WITH(average(), Catch::Contains("missing ema/fc.weight"));
}
