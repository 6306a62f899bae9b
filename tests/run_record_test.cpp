// What a run remembers of its data, and says of them.
#include "train/run_record.h"

#include "tests/programs.h"
#include "tests/run_testing.h"
#include "train/image_sample.h"

using namespace faq;
using namespace faq::testing;

namespace {

// A run that was stopped in its first epoch.
void stopped_run(const fs::path& data, const fs::path& output) {
  Process process(FAQ_TRAIN, training(output, {"--data-path", data.string(), "--checkpoint-interval", "1"}));
  const bool in_time = process.wait_until([&] { return reached(output, 1); });
  process.send(SIGTERM);
  const Outcome stopped = process.wait();
  INFO(stopped.err);
  REQUIRE(in_time);
  REQUIRE(stopped.code == 75);
}

void write_over(const fs::path& folder) {
  for (const auto& entry : fs::recursive_directory_iterator(folder))
    if (entry.is_regular_file()) write_file(entry.path(), png(pattern(1, 16, 77)));
}

}  // namespace

TEST_CASE("a run does not go on with other data under the same names", "[resume]") {
  const TemporaryFolder folder;
  write_data_set(folder / "data", 600, 30);
  stopped_run(folder / "data", folder / "stopped");
  struct Row {
    const char* what;
    std::function<void(const fs::path& data)> change;
    const char* message;  // null: it goes on
  };
  const Row rows[] = {
      {"copied elsewhere", [](const fs::path&) {}, nullptr},
      {"classes in another order",
       [](const fs::path& data) {
         for (const char* split : {"train", "val"}) fs::rename(data / split / "across", data / split / "x");
       },
       "class 0 was \"across\", is now \"down\""},
      {"a class with another name",
       [](const fs::path& data) {
         for (const char* split : {"train", "val"}) fs::rename(data / split / "down", data / split / "dawn");
       },
       "class 1 was \"down\", is now \"dawn\""},
      {"a class in a folder of its own",
       [](const fs::path& data) {
         fs::rename(data / "train" / "down", data / "down");
         fs::create_directory(data / "train" / "down");
         fs::rename(data / "down", data / "train" / "down" / "below");
       },
       "paths and labels for training"},
      {"an image that can no longer be read",
       [](const fs::path& data) { write_file(data / "train" / "across" / "1000.png", "no image"); }, nullptr},
      {"training images written over", [](const fs::path& data) { write_over(data / "train"); },
       "pixels of images for training"},
      {"validation images written over", [](const fs::path& data) { write_over(data / "val"); },
       "pixels of images for validation"},
  };
  for (const Row& row : rows) {
    INFO(row.what);
    const TemporaryFolder copy;
    const auto recursive = fs::copy_options::recursive;
    fs::copy(folder / "data", copy / "data", recursive);
    fs::copy(folder / "stopped", copy / "run", recursive);
    row.change(copy / "data");
    const Outcome outcome = train_by_program(
        copy / "run", {"--data-path", (copy / "data").string(), "--resume", "auto", "--skip-bad", "1"});
    INFO(outcome.err);
    CHECK(outcome.code == (row.message ? 65 : 0));
    if (row.message) CHECK(outcome.err.find(row.message) != std::string::npos);
  }

  // A checkpoint of an earlier version knows names without their folders, and no pixels.
  fs::path checkpoint;
  for (const auto& entry : fs::directory_iterator(folder / "stopped"))
    if (entry.path().extension() == ".safetensors") checkpoint = entry.path();
  NamedTensors contents = read_safetensors(checkpoint);
  json data = json::parse(contents.metadata.at("data"));
  for (const char* key : {"paths and labels", "pixels of images"})
    for (const char* split : {" for training", " for validation"}) CHECK(data.erase(concat(key, split)) == 1);
  contents.metadata["data"] = data.dump();
  CHECK(contents.metadata.erase("skipped") == 1);
  write_safetensors(folder / "old.safetensors", contents);
  const Words old{"--data-path", (folder / "data").string(), "--resume",
                  (folder / "old.safetensors").string()};
  require_done(train_by_program(folder / "from-old", old));
  const fs::path image = fs::directory_iterator(folder / "data" / "train" / "down")->path();
  fs::rename(image, image.parent_path() / "x.png");
  const Outcome others = train_by_program(folder / "from-old-2", old);
  INFO(others.err);
  CHECK(others.code == 65);
  CHECK(others.err.find("names and labels for training") != std::string::npos);
}

TEST_CASE("the best network of a run is not lost by another one", "[resume]") {
  const TemporaryFolder folder;
  const Words words{"--scheme", "none", "--epochs", "3"};
  require_done(train_by_program(folder / "whole", words));
  const auto epoch_of = [](const fs::path& file) {
    return json::parse(read_safetensors(file).metadata.at("progress")).at("epoch").get<int>();
  };
  const int best = epoch_of(folder / "whole" / "best.safetensors");
  struct Row {
    const char* what;
    int best;  // the epoch of the best network; 0: there is none
    Words more;
    int code;
    const char* text;
  };
  const Row rows[] = {
      {"begun again", 3, {}, 64, "holds an earlier run"},
      {"resumed without a checkpoint",
       3,
       {"--resume", "auto"},
       65,
       "best.safetensors is of a run that went on"},
      {"killed at the end of its first epoch", 1, {"--resume", "auto"}, 0, "the run begins anew"},
      {"killed there, and now another run",
       1,
       {"--resume", "auto", "--momentum", "0.5"},
       65,
       "is of another run: momentum was 0.9, is now 0.5"},
      {"nothing there", 0, {"--resume", "auto"}, 0, ""},
  };
  CHECK(best >= 1);
  for (const Row& row : rows) {
    INFO(row.what);
    const TemporaryFolder copy;
    fs::create_directory(copy / "run");
    if (row.best > 0) {
      NamedTensors contents = read_safetensors(folder / "whole" / "best.safetensors");
      json progress = json::parse(contents.metadata.at("progress"));
      progress["epoch"] = row.best;
      contents.metadata["progress"] = progress.dump();
      write_safetensors(copy / "run" / "best.safetensors", contents);
    }
    const std::string before = row.best > 0 ? file_bytes(copy / "run" / "best.safetensors") : "";
    const Outcome outcome = train_by_program(copy / "run", words + row.more);
    INFO(outcome.err);
    CHECK(outcome.code == row.code);
    CHECK(outcome.err.find(row.text) != std::string::npos);
    if (row.code != 0) CHECK((file_bytes(copy / "run" / "best.safetensors") == before));
  }
}

TEST_CASE("an image that cannot be read in the middle of a run leaves a checkpoint", "[resume]") {
  const TemporaryFolder folder;
  write_data_set(folder / "data", 600, 30);
  fs::copy(folder / "data", folder / "good", fs::copy_options::recursive);
  const Words data{"--data-path", (folder / "data").string()};
  Process process(FAQ_TRAIN, training(folder / "run", data));
  REQUIRE(process.wait_until([&] { return reached(folder / "run", 3); }));
  process.send(SIGSTOP);  // on a busy machine it might be done before the images are overwritten
  for (const auto& entry : fs::recursive_directory_iterator(folder / "data" / "train"))
    if (entry.is_regular_file()) write_file(entry.path(), "no image");
  process.send(SIGCONT);
  const Outcome outcome = process.wait();
  INFO(outcome.err);
  CHECK(outcome.code == 65);
  for (const std::string& part : {(folder / "data" / "train").string(), std::string(".png"),
                                  std::string("--skip-bad"), std::string("--resume auto")})
    CHECK(outcome.err.find(part) != std::string::npos);
  fs::remove_all(folder / "data");
  fs::rename(folder / "good", folder / "data");
  require_done(train_by_program(folder / "run", data + Words{"--resume", "auto"}));
  require_done(train_by_program(folder / "whole", data));
  CHECK(
      tensor_difference(folder / "run" / "last.safetensors", folder / "whole" / "last.safetensors").empty());
}

TEST_CASE("a run goes on with the images it has skipped", "[resume]") {
  const TemporaryFolder folder;
  write_data_set(folder / "data", 200, 30);
  int bad = 0;
  for (const auto& entry : fs::directory_iterator(folder / "data" / "train" / "down"))
    if (bad < 6) write_file(entry.path(), "no image"), ++bad;
  const Words options{"--data-path", (folder / "data").string(), "--skip-bad", "6"};
  Process process(FAQ_TRAIN, training(folder / "run", options + Words{"--checkpoint-interval", "1"}));
  const bool in_time = process.wait_until([&] { return reached(folder / "run", 14); });
  process.send(SIGTERM);
  REQUIRE(process.wait().code == 75);
  REQUIRE(in_time);
  require_done(train_by_program(folder / "run", options + Words{"--resume", "auto"}));
  const std::vector<json> lines = metrics(folder / "run");
  CHECK(lines.back().at("skipped") == 6);
  CHECK(epochs_of(folder / "run") == std::vector{0, 1, 2});
}

TEST_CASE("what a run reports as its result is there when it ends", "[resume]") {
  const TemporaryFolder folder;
  require_done(train_by_program(folder / "run", faq_options));
  struct Row {
    const char* file;
    const char* what;
    std::function<void(const fs::path& file)> change;
  };
  const auto cut = [](const fs::path& file) { fs::resize_file(file, fs::file_size(file) / 2); };
  const auto flip = [](const fs::path& file) {
    std::string bytes = file_bytes(file);
    bytes[bytes.size() - 5] ^= 1;
    write_file(file, bytes);
  };
  const auto of_another_epoch = [](const fs::path& file) {
    NamedTensors contents = read_safetensors(file);
    if (const auto epoch = contents.metadata.find("epoch"); epoch != contents.metadata.end())
      epoch->second = "7";
    if (const auto progress = contents.metadata.find("progress"); progress != contents.metadata.end()) {
      json changed = json::parse(progress->second);
      changed["epoch"] = 7;
      progress->second = changed.dump();
    }
    write_safetensors(file, contents);
  };
  std::vector<Row> rows;
  for (const char* file : {"best.safetensors", "integer.safetensors"}) {
    rows.push_back({file, "gone", [](const fs::path& name) { fs::remove(name); }});
    rows.push_back({file, "cut", cut});
    rows.push_back({file, "a bit flipped", flip});
    rows.push_back({file, "of another epoch", of_another_epoch});
  }
  rows.push_back({"best.safetensors", nullptr, [](const fs::path&) {}});
  for (const Row& row : rows) {
    INFO(row.file << " " << (row.what ? row.what : "as it was"));
    const TemporaryFolder copy;
    fs::copy(folder / "run", copy / "run", fs::copy_options::recursive);
    row.change(copy / "run" / row.file);
    const Outcome outcome = train_by_program(copy / "run", faq_options + Words{"--resume", "auto"});
    INFO(outcome.err);
    CHECK(outcome.code == (row.what ? 74 : 0));
    if (row.what) CHECK(outcome.err.find(concat("run/", row.file)) != std::string::npos);
  }
  // A run that has epochs to go says it at once, and ends well if one of them becomes the best.
  const Words constant{"--scheme", "none", "--lr-scheduler", "constant"};
  require_done(train_by_program(folder / "constant", constant));
  fs::remove(folder / "constant" / "best.safetensors");
  const Outcome longer =
      train_by_program(folder / "constant", constant + Words{"--resume", "auto", "--epochs", "3"});
  INFO(longer.err);
  CHECK(longer.err.find("warning: ") < longer.err.find("best.safetensors"));
  CHECK((longer.code == 0) == fs::exists(folder / "constant" / "best.safetensors"));
}

TEST_CASE("another run's network is not taken for this run's result", "[resume]") {
  const TemporaryFolder folder;
  const Words words =
      faq_options + Words{"--hold-weight-scales", "1", "--lr-scheduler", "constant", "--epochs", "1"};
  for (const char* seed : {"9", "10"})
    require_done(train_by_program(folder / seed, words + Words{"--seed", seed}));
  const auto resumed = [&](const std::vector<std::string>& foreign, const char* epochs) {
    const TemporaryFolder copy;
    fs::copy(folder / "9", copy / "run", fs::copy_options::recursive);
    for (const std::string& file : foreign)
      fs::copy_file(folder / "10" / file, copy / "run" / file, fs::copy_options::overwrite_existing);
    return train_by_program(copy / "run",
                            words + Words{"--seed", "9", "--resume", "auto", "--epochs", epochs});
  };
  require_done(resumed({}, "1"));
  for (const std::vector<std::string>& foreign : {std::vector<std::string>{"best.safetensors"},
                                                  {"integer.safetensors"},
                                                  {"best.safetensors", "integer.safetensors"}}) {
    INFO(foreign.front() << " " << foreign.size());
    const Outcome outcome = resumed(foreign, "1");
    INFO(outcome.err);
    CHECK(outcome.code == 74);
    CHECK(outcome.err.find("is of another run") != std::string::npos);
  }
}

TEST_CASE("a run that goes on keeps the record of what it began with", "[resume]") {
  const TemporaryFolder folder;
  for (const char* name : {"a", "b"})
    require_done(train_by_program(folder / name, {"--epochs", "1", "--seed", name[0] == 'a' ? "1" : "2"}));
  const auto words = [&](const char* weights, const char* epochs) {
    return Words{"--lr-scheduler", "constant",  "--epochs",
                 epochs,           "--weights", (folder / weights / "best.safetensors").string()};
  };
  require_done(train_by_program(folder / "run", words("a", "1")));
  const Outcome outcome = train_by_program(folder / "run", words("b", "2") + Words{"--resume", "auto"});
  require_done(outcome);
  CHECK(outcome.err.find("--weights has no effect on a run that goes on") != std::string::npos);
  const json config = json::parse(file_bytes(folder / "run" / "config.json"));
  CHECK(config["weights"] == (folder / "a" / "best.safetensors").string());
  CHECK(config["epochs"] == 2);
}

TEST_CASE("the report of a resumed run has the network that the run began with", "[resume]") {
  const TemporaryFolder folder;
  for (const char* name : {"a", "b"})
    require_done(train_by_program(folder / name, {"--epochs", "1", "--seed", name[0] == 'a' ? "1" : "2"}));
  const auto run = [&](const Words& more) {
    require_done(train_by_program(folder / "run", Words{"--scheme", "faq", "--hold-weight-scales", "1",
                                                        "--lr-scheduler", "constant", "--report", "full"} +
                                                      more));
    return json::parse(file_bytes(folder / "run" / "report.json"))["stages"][0];
  };
  const Words a{"--weights", (folder / "a" / "best.safetensors").string()};
  const Words b{"--weights", (folder / "b" / "best.safetensors").string()};
  json before = run(a + Words{"--epochs", "1"});
  CHECK(before["name"] == "float");
  before.erase("images_per_s");
  int epochs = 2;
  for (const Words& weights : {b, Words{}}) {
    json now = run(weights + Words{"--epochs", std::to_string(epochs++), "--resume", "auto"});
    now.erase("images_per_s");
    CHECK(now == before);
  }
}

TEST_CASE("names of classes that are not UTF-8 match themselves everywhere", "[cli]") {
  const TemporaryFolder folder;
  const char *const odd = "caf\xe9", *const plain = "bb";
  const auto put = [&](const char* data, const char* split, const char* name) {
    for (int n = 0; n < 4; ++n)
      write_file(folder / data / split / name / concat(n, ".png"),
                 png(pattern(name == odd ? 1 : 2, 16, static_cast<std::uint64_t>(n))));
  };
  for (const char* split : {"train", "val"})
    for (const char* name : {odd, plain}) put("data", split, name);
  put("one", "val", odd);
  const std::string data = (folder / "data").string();
  require_done(train_by_program(folder / "run", {"--data-path", data, "--epochs", "1", "-b", "4"}));
  const std::string weights = (folder / "run" / "best.safetensors").string();
  require_done(
      train_by_program(folder / "taught", {"--data-path", data, "--epochs", "1", "-b", "4", "--scheme", "faq",
                                           "--weights", weights, "--distill", "joint"}));
  write_file(folder / "names.txt", concat(odd, "\tCoffee\n"));
  const Outcome outcome =
      run_program(FAQ_EVAL, {"--weights", weights, "--data-path", (folder / "one").string(), "--threads", "1",
                             "--allow-empty-classes", "--class-names", (folder / "names.txt").string(),
                             "--per-class", "--json"});
  require_done(outcome);
  const json classes = json::parse(outcome.out)["classes"];
  REQUIRE(classes.size() == 2);
  CHECK(classes[0]["class"] == plain);
  CHECK(classes[0]["images"] == 0);
  CHECK(classes[1]["class"] == "Coffee");
  CHECK(classes[1]["images"] == 4);
}

TEST_CASE("classes in natural order, from training to evaluation", "[cli]") {
  const TemporaryFolder folder;
  for (int i = 0; i < 12; ++i)
    for (const char* split : {"train", "val"})
      for (int n = 0; n < 2; ++n)
        write_file(folder / "data" / split / std::to_string(i) / concat(n, ".png"),
                   png(pattern(i % 3, 16, static_cast<std::uint64_t>(i))));
  const Words data{"--data-path", (folder / "data").string()};
  const Words options = data + Words{"--epochs", "0"};
  const Outcome by_name = train_by_program(folder / "by-name", options);
  require_done(by_name);
  CHECK(by_name.err.find("0, 1, 10, 11, …") != std::string::npos);
  CHECK(by_name.err.find("the class order natural") != std::string::npos);
  const Outcome natural = train_by_program(folder / "natural", options + Words{"--class-order", "natural"});
  require_done(natural);
  CHECK(natural.err.find("class order natural") == std::string::npos);
  CHECK(json::parse(file_bytes(folder / "natural" / "config.json"))["class-order"] == "natural");
  for (const char* run : {"by-name", "natural"}) {
    INFO(run);
    const json result =
        result_of(data + Words{"--weights", (folder / run / "best.safetensors").string(), "--per-class"});
    REQUIRE(result["classes"].size() == 12);
    CHECK(result["classes"][2]["class"] == (std::string(run) == "natural" ? "2" : "10"));
  }
}

TEST_CASE("the programs say what is done to images") {
  struct Row {
    ImageSample sample;
    Augmentation augment;
    int crop, resize;
    const char* text;
  };
  const ImageSample small{9, {}, 16, 16, 16, 16}, mixed{9, {}, 20, 30, 375, 500};
  const Row rows[] = {
      {small, Augmentation::cifar, 16, 16,
       "images: 16×16; training: padded by 2, a random crop of 16×16, flipped at random; evaluation: the "
       "middle 16×16"},
      {mixed, Augmentation::cifar, 32, 32,
       "images: 30×20 to 500×375; training: resized to 32×32, padded by 4, a random crop of 32×32, flipped "
       "at random; evaluation: shorter side resized to 32 (smaller images are enlarged), the middle 32×32"},
      {mixed, Augmentation::imagenet, 224, 0,
       "images: 30×20 to 500×375; training: a random part resized to 224×224, flipped at random; "
       "evaluation: the middle 224×224, smaller ones padded with black"},
      {{},
       Augmentation::none,
       16,
       16,
       "images: training: as in evaluation; evaluation: shorter side resized to 16 (smaller images are "
       "enlarged), the middle 16×16"},
  };
  for (const Row& row : rows) {
    DataChoice options;
    options.augment = row.augment;
    options.train_crop_size = options.val_crop_size = row.crop;
    options.val_resize_size = row.resize;
    CHECK(text_of_preprocessing(row.sample, options, Split::train) == row.text);
  }

  const std::string network = (finished_run("faq") / "integer.safetensors").string();
  const std::string image = (tiny_images() / "val" / "down" / "1061.png").string();
  const char* said =
      "images: 16×16; evaluation: shorter side resized to 20 (smaller images are enlarged), "
      "the middle 16×16";
  const Words evaluated{"--weights", network, "--data-path", tiny_images().string(), "--threads", "1"};
  for (const Words& arguments : {evaluated, Words{"--weights", network, "--predict", image}}) {
    const Outcome outcome = run_program(FAQ_EVAL, arguments);
    INFO(outcome.err);
    CHECK(outcome.code == 0);
    CHECK(outcome.err.find(said) != std::string::npos);
  }
  // Images that cannot be read end the program after the others.
  const TemporaryFolder folder;
  write_file(folder / "bad.png", "no image");
  const Outcome some = run_program(
      FAQ_EVAL, {"--weights", network, "--json", "--predict", image, (folder / "bad.png").string(), image});
  INFO(some.err);
  CHECK(some.code == 65);
  CHECK(some.err.find("bad.png") != std::string::npos);
  CHECK(json::parse(some.out)["predictions"].size() == 2);
}

TEST_CASE("filters that a scheme without a zero makes noise of", "[cli]") {
  const TemporaryFolder folder;
  NamedTensors weights = read_safetensors(finished_run("none") / "best.safetensors");
  for (auto& [name, tensor] : weights.tensors)
    if (name == "layer1.0.conv1.weight") {
      float* values = tensor.mutable_data<float>();
      std::fill(values, values + tensor.numel() / 2, 0.0f);
    }
  write_safetensors(folder / "pruned.safetensors", weights);
  const struct {
    Words options;
    bool warned;
    bool taken_anew;
  } rows[] = {
      {{"--scheme", "dorefa", "--bits", "4"}, true, true},
      {{"--scheme", "dorefa", "--bits", "4", "--batch-norm-batches", "0"}, true, false},
      {{"--scheme", "faq", "--bits", "4"}, false, false},
  };
  int number = 0;
  for (const auto& row : rows) {
    INFO(join(row.options, " "));
    const Outcome outcome = train_by_program(
        folder / std::to_string(number++),
        row.options + Words{"--data-path", tiny_images().string(), "--epochs", "0", "--calibration-batches",
                            "2", "--weights", (folder / "pruned.safetensors").string()});
    require_done(outcome);
    INFO(outcome.err);
    CHECK((outcome.err.find("8 of 16 in layer1.0.conv1") != std::string::npos) == row.warned);
    CHECK((outcome.err.find("statistics taken from") != std::string::npos) == row.taken_anew);
  }
}
