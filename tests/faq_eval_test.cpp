// What faq-eval reports.
#include <cstring>
#include <functional>
#include <set>

#include "nn/load_weights.h"
#include "quant/deploy/integer_network.h"
#include "tests/programs.h"
#include "tests/run_testing.h"

using namespace faq;
using namespace faq::testing;
using nlohmann::json;

TEST_CASE("analyses print a table, and leave JSON and a figure", "[cli]") {
  const TemporaryFolder folder;
  const fs::path run = finished_run("faq"), floating = finished_run("none");
  const std::string data = tiny_images().string(), baseline = (floating / "best.safetensors").string();
  const auto left = [&](const char* name) {
    CHECK(file_bytes(folder / (std::string(name) + ".svg")).starts_with("<svg "));
    return json::parse(file_bytes(folder / (std::string(name) + ".json")));
  };
  json all;
  for (const char* file : {"best.safetensors", "integer.safetensors"}) {
    const Words cosine{"--analyze",  "cosine", "--weights",    (run / file).string(),
                       "--baseline", baseline, "--output-dir", folder.path().string()};
    const json result = result_of(cosine);
    CHECK(result["layers"].size() == 20);
    CHECK(result["all"]["cosine"].get<double>() > 0.5);
    // However the network is stored.
    if (all.is_null()) all = result["all"];
    CHECK(result["all"]["cosine"].get<double>() == Approx(all["cosine"].get<double>()));
    CHECK(result == left("cosine"));
    const Outcome text = run_program(FAQ_EVAL, cosine);
    CHECK(lines_of(text.out).size() == 22);
    CHECK(lines_of(text.out).back().starts_with("all "));
  }
  const Words on_data{"--data-path", data, "--val-resize-size", "20", "--threads", "1"};
  const Words scales = Words{"--analyze",    "weight-scales",
                             "--weights",    (run / "best.safetensors").string(),
                             "--output-dir", (folder / "scales").string()} +
                       on_data;
  const json by_scale = result_of(scales);
  const json as_it_is = result_of(Words{"--weights", (run / "best.safetensors").string()} + on_data);
  CHECK(by_scale["top1"] == as_it_is["top1"]);
  CHECK(by_scale["loss"] == as_it_is["loss"]);
  REQUIRE(by_scale["layers"].size() == 20);
  int changed = 0;
  for (const json& row : by_scale["layers"]) {
    CHECK(row["error_ratio"].get<double>() > 0);
    changed += row["loss"] != by_scale["loss"];
  }
  CHECK(changed > 15);
  CHECK(by_scale == json::parse(file_bytes(folder / "scales" / "weight-scales.json")));
  CHECK(file_bytes(folder / "scales" / "weight-scales.svg").starts_with("<svg "));
  const Outcome scales_text = run_program(FAQ_EVAL, scales);
  CHECK(lines_of(scales_text.out).size() == 22);
  CHECK(lines_of(scales_text.out)[1].starts_with("as it is "));

  const TemporaryFolder more;
  write_data_set(more.path(), 70, 30);
  const json noise =
      result_of({"--analyze", "gradient-noise", "--weights", baseline, "--data-path", more.path().string(),
                 "--batches", "2", "--output-dir", folder.path().string()});
  REQUIRE(noise["rows"].size() == 7);  // 70 images: batches of 32 alone
  for (const json& row : noise["rows"]) {
    CHECK(row["cosine"].get<double>() > 0);
    CHECK(row["cosine"].get<double>() <= 1);
    CHECK(row["noise"].get<double>() > 0);
  }
  CHECK(noise == left("gradient-noise"));
  const json other_sizes =
      result_of({"--analyze", "gradient-noise", "--weights", baseline, "--data-path", more.path().string(),
                 "--batches", "2", "--batch-sizes", "20,10", "--output-dir", (folder / "sizes").string()});
  REQUIRE(other_sizes["rows"].size() == 14);
  CHECK(other_sizes["rows"][0]["batch_size"] == 10);
  CHECK(other_sizes["rows"][1]["batch_size"] == 20);
  for (const char* split : {"train", "val"}) fs::rename(more / split / "down", more / split / "other");
  const json other_classes =
      result_of({"--analyze", "gradient-noise", "--weights", baseline, "--data-path", more.path().string(),
                 "--batches", "2", "--output-dir", (folder / "classes").string()});
  CHECK(other_classes["rows"].size() == 7);
  const Words sensitivity{"--analyze",    "sensitivity",         "-c", (run / "config.json").string(),
                          "--output-dir", folder.path().string()};
  const json table = result_of(sensitivity);
  REQUIRE(table["rows"].size() == 7);  // no pretraining to leave out, one epoch alone
  CHECK(table["rows"][0]["without"] == "the recipe");
  CHECK(table == left("sensitivity"));
  // The recipe is the run it was taken from; what is finished is not done again.
  CHECK(tensor_difference(folder / "recipe" / "best.safetensors", run / "best.safetensors").empty());
  CHECK(result_of(sensitivity) == table);
  const Words bits{"--analyze",    "bits",
                   "-c",           (run / "config.json").string(),
                   "--output-dir", (folder / "widths").string()};
  const json by_bits = result_of(bits);
  REQUIRE(by_bits["rows"].size() == 6);
  for (const json& row : by_bits["rows"]) {
    const int width = row["bits"];
    const fs::path of_width = folder / "widths" / concat(width, "-bits");
    const json config = json::parse(file_bytes(of_width / "config.json"));
    CHECK(config["weight-bits"] == width);
    CHECK(config["act-bits"] == width);
    // epoch, training loss and top-1, validation loss and top-1, …: epoch 0 is calibration alone.
    const auto summary = lines_of(file_bytes(of_width / "summary.csv"));
    REQUIRE(summary.size() == 3);
    const auto top1 = [](std::string line) {
      for (int i = 0; i < 4; ++i) line.erase(0, line.find(',') + 1);
      return std::stod(line);
    };
    CHECK(row["initial"].get<double>() == Approx(top1(summary[1])));
    CHECK(row["last"].get<double>() == Approx(top1(summary[2])));
    // The width the run had is that run again.
    if (width == 4) CHECK(tensor_difference(of_width / "best.safetensors", run / "best.safetensors").empty());
  }
  CHECK(by_bits == json::parse(file_bytes(folder / "widths" / "bits.json")));
  // Clusters are of 4 bits at most.
  json clusters = json::parse(file_bytes(run / "config.json"));
  clusters.update({{"scheme", "dfp"}, {"weight-bits", 2}, {"equalize", ""}, {"epochs", 0}});
  write_file(folder / "clusters.json", clusters.dump());
  const json of_clusters = result_of({"--analyze", "bits", "-c", (folder / "clusters.json").string(),
                                      "--output-dir", (folder / "clusters").string()});
  std::vector<int> widths;
  for (const json& row : of_clusters["rows"]) widths.push_back(row["bits"]);
  CHECK(widths == std::vector{4, 3, 2});

  // Without pretraining the teacher still knows what it was taught.
  json distilled = json::parse(file_bytes(run / "config.json"));
  distilled.update({{"weights", baseline}, {"distill", "frozen"}, {"epochs", 0}});
  write_file(folder / "distilled.json", distilled.dump());
  const json of_distilled = result_of({"--analyze", "sensitivity", "-c", (folder / "distilled.json").string(),
                                       "--output-dir", (folder / "distilled").string()});
  CHECK(of_distilled["rows"][1]["without"] == "no pretraining");

  // A quarter of the epochs is a quarter of each phase, and one at least.
  json phased = json::parse(file_bytes(run / "config.json"));
  phased.update({{"stages", "weights,both"}, {"epochs", 3}, {"phase-epochs", {1, 2}}, {"batch-size", 30}});
  write_file(folder / "phased.json", phased.dump());
  result_of({"--analyze", "sensitivity", "-c", (folder / "phased.json").string(), "--output-dir",
             (folder / "phased").string()});
  const json shorter = json::parse(file_bytes(folder / "phased" / "shorter" / "config.json"));
  CHECK(shorter["epochs"] == 2);
  CHECK(shorter["phase-epochs"] == std::vector{1, 1});

  const Refusal rows[] = {
      {"of what", FAQ_EVAL, {"--analyze", "cosine"}, 64, "--baseline"},
      {"no such analysis", FAQ_EVAL, {"--analyze", "entrails"}, 64, "gradient-noise"},
      {"not quantized",
       FAQ_EVAL,
       {"--analyze", "cosine", "--weights", baseline, "--baseline", baseline},
       65,
       "not quantized"},
      {"scales of floating point",
       FAQ_EVAL,
       {"--analyze", "weight-scales", "--weights", baseline, "--data-path", data},
       65,
       "(float checkpoint): expected a quantized checkpoint"},
      {"scales of an integer network",
       FAQ_EVAL,
       {"--analyze", "weight-scales", "--weights", (run / "integer.safetensors").string(), "--data-path",
        data},
       65,
       "(integer network): expected a quantized checkpoint"},
      {"no weights", FAQ_EVAL, {"--analyze", "gradient-noise", "--data-path", data}, 64, "--weights"},
      {"batches of text",
       FAQ_EVAL,
       {"--analyze", "gradient-noise", "--weights", baseline, "--data-path", data, "--batches", "abc"},
       64,
       "--batches 'abc'"},
      {"two analyses",
       FAQ_EVAL,
       {"--analyze", "gradient-noise", "--weights", baseline, "--data-path", data, "--per-class"},
       64,
       "one at a time"},
      {"too few images",
       FAQ_EVAL,
       {"--analyze", "gradient-noise", "--weights", baseline, "--data-path", data},
       65,
       "fewer than two batches of 32"},
      {"no run", FAQ_EVAL, {"--analyze", "sensitivity"}, 64, "--config"},
      {"no run to change the bits of", FAQ_EVAL, {"--analyze", "bits"}, 64, "--config"},
      {"no folder",
       FAQ_EVAL,
       {"--analyze", "sensitivity", "-c", (run / "config.json").string()},
       64,
       "--output-dir"},
      {"not a quantized run",
       FAQ_EVAL,
       {"--analyze", "sensitivity", "-c", (floating / "config.json").string(), "--output-dir",
        (folder / "x").string()},
       64,
       "not quantized"},
  };
  for (const Refusal& row : rows) check_refused(row);
}

TEST_CASE("data of other classes than the network's are refused", "[cli]") {
  const std::string network = (finished_run("faq") / "integer.safetensors").string();
  const TemporaryFolder renamed, more;
  write_data_set(renamed.path(), 6, 6);
  for (const char* split : {"train", "val"}) fs::rename(renamed / split / "down", renamed / split / "dawn");
  check_refused({"another name",
                 FAQ_EVAL,
                 {"--weights", network, "--data-path", renamed.path().string()},
                 64,
                 "class 1 is 'dawn', the network's is 'down'"});
  write_data_set(more.path(), 6, 6);
  for (const char* split : {"train", "val"}) {
    fs::create_directories(more / split / "up");
    fs::copy(fixture("rgb.png"), more / split / "up");
  }
  check_refused({"one more",
                 FAQ_EVAL,
                 {"--weights", network, "--data-path", more.path().string()},
                 64,
                 "has 4 classes, the network 3"});
}

TEST_CASE("data may have some of the network's classes, when that is allowed", "[cli]") {
  const std::string network = (finished_run("faq") / "integer.safetensors").string();
  const TemporaryFolder some, numbers;
  for (const char* name : {"slanted", "down"})
    fs::copy(tiny_images() / "val" / name, some / name, fs::copy_options::recursive);
  const Words words{"--weights", network, "--data-path", some.path().string()};
  check_refused({"fewer", FAQ_EVAL, words, 64, "has 2 classes, the network 3"});
  const json all = result_of({"--weights", network, "--data-path", tiny_images().string(), "--per-class"});
  const json part = result_of(words + Words{"--per-class", "--allow-empty-classes"});
  CHECK(part["images"] == 20);
  for (const json& row : part["classes"]) {
    const auto same =
        std::ranges::find_if(all["classes"], [&](const json& one) { return one["class"] == row["class"]; });
    REQUIRE(same != all["classes"].end());
    if (row["class"] == "across")
      CHECK(row["images"] == 0);
    else
      CHECK(row["top1"] == (*same)["top1"]);
  }
  // Numbers stand for names that nobody gave.
  int number = 0;
  for (const char* name : {"across", "down", "slanted"})
    fs::copy(tiny_images() / "val" / name, numbers / std::to_string(number++), fs::copy_options::recursive);
  const Outcome numbered =
      run_program(FAQ_EVAL, {"--weights", network, "--data-path", numbers.path().string(), "--threads", "1"});
  CHECK(numbered.code == 0);
  CHECK(numbered.err.find("numbers and names, taken to be in the same order") != std::string::npos);
}

TEST_CASE("images too large for a network are a usage error", "[cli]") {
  const Outcome outcome = run_program(
      FAQ_EVAL, {"--weights", (finished_run("faq") / "integer.safetensors").string(), "--data-path",
                 tiny_images().string(), "--val-crop-size", "4096", "--val-resize-size", "4096"});
  CHECK(outcome.code == 64);
  CHECK(outcome.err.find("'conv1' makes more than ") != std::string::npos);
}

TEST_CASE("a switch may be taken back", "[cli]") {
  const fs::path run = finished_run("faq");
  const Words words{"--weights",   (run / "integer.safetensors").string(),
                    "--data-path", tiny_images().string(),
                    "--threads",   "1"};
  const Outcome text =
      run_program(FAQ_EVAL, words + Words{"--json=false", "--per-class=false", "--quiet=true"});
  CHECK(text.code == 0);
  CHECK(text.err.empty());
  CHECK(text.out.find("top-1") != std::string::npos);
  CHECK(text.out.find("down") == std::string::npos);
  const TemporaryFolder folder;
  require_done(train_by_program(folder / "run", {"--dry-run=false", "--epochs", "1"}));
  CHECK(fs::exists(folder / "run" / "best.safetensors"));
  // An option of one letter has the same forms as the others.
  for (const Words& target : {Words{"--c", (folder / "a").string()}, Words{"--c=" + (folder / "b").string()},
                              Words{"-c", (folder / "d").string()}}) {
    const Outcome written = run_program(FAQ_EXPORT, Words{(run / "integer.safetensors").string()} + target);
    INFO(written.err);
    CHECK(written.code == 0);
  }
  for (const char* name : {"a", "b", "d"}) CHECK(fs::exists(folder / name / "network.c"));
}

TEST_CASE("float weights, checkpoints and integer networks evaluate alike", "[cli]") {
  const TemporaryFolder folder;
  const std::string data = tiny_images().string();
  const auto same = [](const json& a, const json& b) {
    for (const char* key : {"top1", "top5", "loss", "images"}) {
      INFO(key << " " << a[key] << " " << b[key]);
      CHECK(a[key] == b[key]);
    }
  };
  for (const char* scheme : {"none", "faq"}) {
    INFO(scheme);
    const fs::path run = finished_run(scheme);
    const bool quantized = scheme == std::string("faq");
    const json best = result_of({"--weights", (run / "best.safetensors").string(), "--data-path", data});
    CHECK(best["images"] == 30);
    CHECK(best["kind"] == (quantized ? "quantized checkpoint" : "float checkpoint"));
    // What the run itself reported last, and whatever the batch size.
    const json last = result_of({"--weights", (run / "last.safetensors").string(), "--data-path", data});
    const json reported = json::parse(lines_of(file_bytes(run / "metrics.jsonl")).back());
    CHECK(last["top1"] == reported["top1"]);
    CHECK(last["loss"].get<double>() == Approx(reported["val_loss"].get<double>()).epsilon(1e-6));
    if (quantized) {
      const std::string network = (run / "integer.safetensors").string();
      const json integer = result_of({"--weights", network, "--data-path", data});
      CHECK(integer["kind"] == "integer network");
      same(integer, best);
      for (const std::string& weights : {network, (run / "best.safetensors").string()})
        same(result_of({"--weights", weights, "--data-path", data, "--engine", "simulated"}), integer);
      CHECK(result_of({"--weights", network, "--data-path", data, "-b", "7"})["top1"] == integer["top1"]);
      CHECK(result_of({"--weights", network, "--data-path", data, "--split", "train"})["images"] == 60);
      CHECK(run_program(FAQ_EVAL, {"--weights", network, "--data-path", data, "--split", "test"}).code == 66);
      check_refused({"labels of another split",
                     FAQ_EVAL,
                     {"--weights", network, "--data-path", data, "--split", "train", "--val-labels", "f"},
                     64,
                     "--val-labels has no effect on --split train"});
    } else {
      NamedTensors plain = read_safetensors(run / "best.safetensors");
      plain.metadata.clear();
      write_safetensors(folder / "plain.safetensors", plain);
      const json weights = result_of({"--weights", (folder / "plain.safetensors").string(), "--model",
                                      "resnet20", "--data-path", data, "--val-resize-size", "20"});
      CHECK(weights["kind"] == "float weights");
      same(weights, best);
    }
  }
}

TEST_CASE("evaluation by class", "[cli]") {
  const fs::path run = finished_run("faq");
  const json all = result_of({"--weights", (run / "integer.safetensors").string(), "--data-path",
                              tiny_images().string(), "--per-class"});
  REQUIRE(all["classes"].size() == 3);
  double correct = 0, loss = 0;
  std::int64_t count = 0;
  for (const json& row : all["classes"]) {
    const auto n = row["images"].get<std::int64_t>();
    CHECK(n == 10);
    count += n;
    correct += row["top1"].get<double>() * static_cast<double>(n);
    loss += row["loss"].get<double>() * static_cast<double>(n);
  }
  CHECK(count == all["images"]);
  CHECK(correct / 30 == Approx(all["top1"].get<double>()));
  CHECK(loss / 30 == Approx(all["loss"].get<double>()));
  CHECK(all["classes"][1]["class"] == "down");
}

TEST_CASE("which classes are taken for which", "[cli]") {
  const Words arguments{"--weights", (finished_run("faq") / "integer.safetensors").string(), "--data-path",
                        tiny_images().string()};
  const json by_class = result_of(arguments + Words{"--per-class"});
  const json confusion = result_of(arguments + Words{"--confusion"})["confusion"];
  CHECK(confusion["classes"] == json({"across", "down", "slanted"}));
  std::vector<std::int64_t> images(3), correct(3);
  for (const json& cell : confusion["cells"]) {
    CHECK(cell[2].get<std::int64_t>() > 0);
    images[cell[0].get<std::size_t>()] += cell[2].get<std::int64_t>();
    if (cell[0] == cell[1]) correct[cell[0].get<std::size_t>()] = cell[2];
  }
  for (std::size_t k = 0; k < 3; ++k) {
    CHECK(images[k] == by_class["classes"][k]["images"]);
    CHECK(100.0 * static_cast<double>(correct[k]) / 10 ==
          Approx(by_class["classes"][k]["top1"].get<double>()));
  }
  const Outcome shown = run_program(FAQ_EVAL, arguments + Words{"--confusion", "--quiet"});
  REQUIRE(shown.code == 0);
  const std::vector<std::string> lines = lines_of(shown.out);
  REQUIRE(lines.size() == 5);  // the result, a head and three classes
  CHECK(lines[1].starts_with("class, taken for number"));
  for (std::size_t k = 0; k < 3; ++k) {
    std::istringstream numbers(lines[2 + k].substr(28));
    for (std::int64_t predicted = 0; predicted < 3; ++predicted) {
      std::int64_t found = -1, expected = 0;
      numbers >> found;
      for (const json& cell : confusion["cells"])
        if (cell[0] == k && cell[1] == predicted) expected = cell[2];
      CHECK(found == expected);
    }
  }
  check_refused(
      {"two at a time", FAQ_EVAL, arguments + Words{"--confusion", "--per-class"}, 64, "one at a time"});
}

TEST_CASE("predictions for the images of a folder, and of a list", "[cli]") {
  const TemporaryFolder folder;
  const std::string network = (finished_run("faq") / "integer.safetensors").string();
  const fs::path of_class = tiny_images() / "val" / "down";
  for (const char* name : {"b/2.png", "a.png", "b/.hidden.png"})
    fs::create_directories((folder / "photos" / name).parent_path()),
        fs::copy_file(of_class / "1061.png", folder / "photos" / name);
  write_file(folder / "photos" / "notes.txt", "no image");
  const auto files_of = [](const json& result) {
    std::vector<std::string> files;
    for (const json& row : result["predictions"]) files.push_back(row["file"]);
    return files;
  };
  const std::string a = (folder / "photos/a.png").string(), b = (folder / "photos/b/2.png").string();
  CHECK(files_of(result_of({"--weights", network, "--predict", (folder / "photos").string()})) ==
        std::vector<std::string>{a, b});
  // From a list, after a file that an argument names.
  const Outcome listed = run_program(
      "/bin/sh",
      {"-c", concat("printf '%s\\r\\n\\n%s\\n' '", a, "' '", b, "' | '", FAQ_EVAL, "' --weights '", network,
                    "' --json --threads 1 --predict '", (of_class / "1061.png").string(), "' -")});
  INFO(listed.err);
  REQUIRE(listed.code == 0);
  CHECK(files_of(json::parse(listed.out)) ==
        std::vector<std::string>{(of_class / "1061.png").string(), a, b});
  const Outcome nothing = run_program(
      "/bin/sh", {"-c", concat("'", FAQ_EVAL, "' --weights '", network, "' --predict - </dev/null")});
  CHECK(nothing.code == 65);
  CHECK(nothing.err.find("the standard input names no image") != std::string::npos);
  fs::create_directories(folder / "empty");
  check_refused({"no image in a folder",
                 FAQ_EVAL,
                 {"--weights", network, "--predict", (folder / "empty").string()},
                 65,
                 "no JPEG or PNG"});
}

TEST_CASE("predictions for single images", "[cli]") {
  const TemporaryFolder folder;
  const fs::path run = finished_run("faq");
  const std::string network = (run / "integer.safetensors").string();
  // The classes with the largest probability are those the accuracy is counted from.
  Words arguments{"--weights", network, "--predict"};
  for (const char* name : {"across", "down", "slanted"}) {
    for (const auto& file : fs::directory_iterator(tiny_images() / "val" / name))
      arguments.push_back(file.path().string());
  }
  const json result = result_of(arguments);
  REQUIRE(result["predictions"].size() == 30);
  int correct = 0;
  for (const json& row : result["predictions"]) {
    REQUIRE(row["top5"].size() == 3);
    double sum = 0;
    for (const json& guess : row["top5"]) sum += guess["probability"].get<double>();
    CHECK(sum == Approx(1));
    const std::string expected = fs::path(row["file"].get<std::string>()).parent_path().filename().string();
    correct += row["top5"][0]["class"] == expected;
  }
  const json all = result_of({"--weights", network, "--data-path", tiny_images().string()});
  CHECK(100.0 * correct / 30 == Approx(all["top1"].get<double>()));

  const std::string image = (tiny_images() / "val" / "down" / "1061.png").string();
  write_file(folder / "names", "down\tgoing down\nacross\tgoing across\n");
  const json named =
      result_of({"--weights", network, "--class-names", (folder / "names").string(), "--predict", image});
  std::set<std::string> names;
  for (const json& guess : named["predictions"][0]["top5"]) names.insert(guess["class"]);
  CHECK(names == std::set<std::string>{"going across", "going down", "slanted"});
  write_file(folder / "list", "a\nb\nc\n");
  const json listed =
      result_of({"--weights", network, "--class-names", (folder / "list").string(), "--predict", image});
  CHECK(listed["predictions"][0]["top5"][0]["class"].get<std::string>().size() == 1);

  write_file(folder / "of-windows",
             "\xef\xbb\xbf"
             "across\tX\r\ndown\tY\r\nslanted\tZ\r\n");
  const json marked = result_of(
      {"--weights", network, "--class-names", (folder / "of-windows").string(), "--predict", image});
  names.clear();
  for (const json& guess : marked["predictions"][0]["top5"]) names.insert(guess["class"]);
  CHECK(names == std::set<std::string>{"X", "Y", "Z"});

  write_file(folder / "text.png", "no image");
  check_refused({"no image",
                 FAQ_EVAL,
                 {"--weights", network, "--predict", (folder / "text.png").string()},
                 65,
                 "text.png"});
  check_refused({"no file", FAQ_EVAL, {"--weights", network, "--predict", "gone.png"}, 66, "gone.png"});
  check_refused({"no names",
                 FAQ_EVAL,
                 {"--weights", network, "--class-names", "gone", "--predict", image},
                 66,
                 "gone"});
  write_file(folder / "twice", "down\tone\ndown\ttwo\n");
  write_file(folder / "others", "n01440764\ttench\n");
  for (const auto& [file, message] :
       {std::pair{"twice", "folder down twice"}, std::pair{"others", "no line is about a class of the data"}})
    check_refused({file,
                   FAQ_EVAL,
                   {"--weights", network, "--class-names", (folder / file).string(), "--predict", image},
                   65,
                   message});
  check_refused({"stray argument", FAQ_EVAL, {"--weights", network, image}, 64, "unexpected argument"});
}

TEST_CASE("an integer network is its own description", "[cli]") {
  const TemporaryFolder folder;
  const fs::path of_run = finished_run("faq") / "integer.safetensors";
  const IntegerNetwork trained = IntegerNetwork::load(of_run);
  trained.save(folder / "mine.safetensors", {{"model", "a network of mine"}});
  const auto evaluated = [](const fs::path& file, const Words& more = {}) {
    return result_of(Words{"--weights", file.string(), "--data-path", tiny_images().string()} + more);
  };
  const json expected = evaluated(of_run), result = evaluated(folder / "mine.safetensors");
  CHECK(result["kind"] == "integer network");
  CHECK(result["images"] == 30);
  CHECK(result["loss"] == expected["loss"]);

  // Nothing but the preprocessing says how its images are made: not those of the default model.
  Preprocessing other = trained.preprocessing();
  other.resize = other.height + 7;
  IntegerNetwork(trained.nodes(), other).save(folder / "other.safetensors");
  const json resized = evaluated(folder / "other.safetensors");
  CHECK(resized["loss"] != expected["loss"]);
  CHECK(resized["loss"] == evaluated(of_run, {"--val-resize-size", std::to_string(other.resize)})["loss"]);
  CHECK(evaluated(folder / "other.safetensors",
                  {"--val-resize-size", std::to_string(trained.preprocessing().resize)})["loss"] ==
        expected["loss"]);
  other.width += 4;
  IntegerNetwork(trained.nodes(), other).save(folder / "wide.safetensors");
  check_refused({"no square",
                 FAQ_EVAL,
                 {"--weights", (folder / "wide.safetensors").string(), "--data-path", tiny_images().string()},
                 64,
                 "give --val-crop-size"});
}

TEST_CASE("the integer network of any quantized checkpoint", "[cli]") {
  const TemporaryFolder folder;
  const fs::path quantized = finished_run("faq"), best = quantized / "best.safetensors",
                 written = folder / "mine.safetensors";
  const auto exporting = [&](const fs::path& weights, const fs::path& to, const Words& more = {}) {
    return Words{"--weights", weights.string(), "--export", to.string()} + more;
  };
  const json said = result_of(exporting(best, written));
  CHECK(file_bytes(written) == file_bytes(quantized / "integer.safetensors"));
  CHECK(said["bytes"] == fs::file_size(written));
  CHECK(said["kind"] == "quantized checkpoint");
  CHECK(said["model"] == "resnet20");
  // The run's best epoch: it has one, after the evaluation before training.
  const json reported = json::parse(lines_of(file_bytes(quantized / "metrics.jsonl")).back());
  CHECK(said["epoch"] == reported["epoch"]);
  const IntegerNetwork network = IntegerNetwork::load(written);
  CHECK(network.about().at("epoch") == reported["epoch"].dump());
  CHECK(network.about().at("model") == "resnet20");
  CHECK(said["input"] == json{network.height(), network.width(), 3});
  CHECK(result_of(exporting(best, written, {"--val-crop-size", "24"}))["input"] == json{24, 24, 3});

  const std::string before = file_bytes(best);
  const fs::path nothing = folder / "nothing.safetensors";
  for (const Refusal& row : std::initializer_list<Refusal>{
           {"the checkpoint itself", FAQ_EVAL, exporting(best, quantized / "." / "best.safetensors"), 64,
            "that is the checkpoint itself"},
           {"another checkpoint of its run", FAQ_EVAL, exporting(best, quantized / "last.safetensors"), 64,
            "that is a checkpoint of a run"},
           {"what is one", FAQ_EVAL, exporting(written, nothing), 64, "found integer network"},
           {"floating point", FAQ_EVAL, exporting(finished_run("none") / "best.safetensors", nothing), 64,
            "found float checkpoint"},
           {"data", FAQ_EVAL, exporting(best, nothing, {"--data-path", "x"}), 64, "no effect on --export"},
           {"two things", FAQ_EVAL, exporting(best, nothing, {"--per-class"}), 64, "one at a time"},
           {"nowhere", FAQ_EVAL, exporting(best, folder / "gone" / "mine.safetensors"), 74, "writing"},
           {"an average it has not", FAQ_EVAL, exporting(best, nothing, {"--use-ema"}), 64,
            "no moving average"},
           {"an average of integers", FAQ_EVAL, exporting(written, nothing, {"--use-ema"}), 64,
            "is no checkpoint"},
           {"an average for an analysis",
            FAQ_EVAL,
            {"--analyze", "cosine", "--use-ema", "--weights", best.string(), "--baseline", best.string()},
            64,
            "--use-ema has no effect"}})
    check_refused(row);
  CHECK(file_bytes(best) == before);
  CHECK_FALSE(fs::exists(nothing));
}

TEST_CASE("two networks compared", "[cli]") {
  const fs::path quantized = finished_run("faq"), floating = finished_run("none");
  const std::string data = tiny_images().string(), best = (quantized / "best.safetensors").string();
  const json same = result_of(
      {"--weights", (quantized / "integer.safetensors").string(), "--data-path", data, "--compare", best});
  CHECK(same["agreement"] == 100);
  CHECK(same["images"] == 30);
  CHECK(same["first_diverging_layer"] == "");
  CHECK(same["layers"].size() == 24);
  for (const json& layer : same["layers"]) CHECK(layer["difference"] == 0);

  const json other = result_of(
      {"--weights", best, "--data-path", data, "--compare", (floating / "best.safetensors").string()});
  CHECK(other["agreement"].get<double>() > 30);
  CHECK(other["first_diverging_layer"] == "input");
  CHECK(other["layers"].size() == 24);
  CHECK(other["layers"][0]["difference"].get<double>() < 0.02);

  // --model is of plain weights, wherever they are.
  const TemporaryFolder folder;
  const auto larger = make_model("resnet32", {.num_classes = 3});
  initialize(*larger, 1);
  NamedTensors plain;
  export_weights(*larger, plain);
  write_safetensors(folder / "plain.safetensors", plain);
  for (const char* file : {"integer.safetensors", "best.safetensors"}) {
    INFO(file);
    const json of_another =
        result_of({"--weights", (quantized / file).string(), "--data-path", data, "--compare",
                   (folder / "plain.safetensors").string(), "--model", "resnet32"});
    CHECK(of_another["other"] == "float weights");
    CHECK(of_another["images"] == 30);
  }

  check_refused({"nothing to compare with",
                 FAQ_EVAL,
                 {"--weights", best, "--data-path", data, "--compare", "gone.safetensors"},
                 66,
                 "gone"});
  check_refused({"two things at once",
                 FAQ_EVAL,
                 {"--weights", best, "--data-path", data, "--compare", best, "--per-class"},
                 64,
                 "one at a time"});
  check_refused({"two to compare with",
                 FAQ_EVAL,
                 {"--weights", best, "--data-path", data, "--compare", best, "--compare", best},
                 64,
                 "one at a time"});
}

TEST_CASE("pretrained CIFAR-10 networks have their published accuracy", "[cli][data]") {
  const auto weights = real_data("weights"), data = real_data("cifar10");
  if (!weights || !data) return;
  struct {
    const char* model;
    const char* file;
    double top1;
  } const rows[] = {{"resnet20", "resnet20-12fca82f.th", 81.03}, {"resnet32", "resnet32-d509ac18.th", 82.56}};
  const TemporaryFolder folder;
  const std::string converter =
      (fs::path(FAQ_TEST_FIXTURES).parent_path().parent_path() / "tools" / "convert_torch.py").string();
  for (const auto& row : rows) {
    INFO(row.file);
    if (!fs::exists(*weights / row.file)) {
      WARN((*weights / row.file).string() << " is not there: not tested on real data");
      return;
    }
    const std::string converted = (folder / row.model).string() + ".safetensors";
    const Outcome conversion =
        run_program("/usr/bin/env", {"python3", converter, (*weights / row.file).string(), converted});
    INFO(conversion.err);
    REQUIRE(conversion.code == 0);
    const Outcome outcome =
        run_program(FAQ_EVAL, {"--weights", converted, "--model", row.model, "--data-path", data->string(),
                               "--json", "--threads", "1"});
    INFO(outcome.err);
    REQUIRE(outcome.code == 0);
    const json result = json::parse(outcome.out);
    CHECK(result["images"] == 10000);
    CHECK(std::abs(result["top1"].get<double>() - row.top1) <= 0.15);
  }
}

namespace {

// A copy of a file with something done to its contents.
std::string changed(const fs::path& from, const fs::path& to,
                    const std::function<void(NamedTensors&)>& change) {
  NamedTensors file = read_safetensors(from);
  change(file);
  write_safetensors(to, file);
  return to.string();
}

void fill(NamedTensors& file, const std::string& name, float value) {
  for (auto& [own, tensor] : file.tensors)
    if (own == name) tensor = Tensor::full(tensor.shape(), value);
}

// A copy of a file without the entry of its metadata that holds the checksums.
std::string without_checksums(const fs::path& from, const fs::path& to) {
  const std::string bytes = file_bytes(from);
  std::uint64_t length = 0;
  std::memcpy(&length, bytes.data(), sizeof length);
  json header = json::parse(bytes.substr(8, length));
  header["__metadata__"].erase("crc32");
  const std::string text = header.dump(), tensors = bytes.substr(8 + length);
  length = text.size();
  write_file(to, std::string(reinterpret_cast<const char*>(&length), sizeof length) + text + tensors);
  return to.string();
}

}  // namespace

TEST_CASE("outputs that are no numbers end with 65, and the first layer is named", "[cli]") {
  const TemporaryFolder folder;
  const fs::path floating = finished_run("none"), quantized = finished_run("faq");
  const std::string data = tiny_images().string();
  const std::string image = (tiny_images() / "val" / "down" / "1061.png").string();
  struct Row {
    const char* what;
    std::string file;
    Words how;  ///< to open it
    const char* message;
  };
  const auto plain = [](NamedTensors& file) { file.metadata.clear(); };
  const std::vector<Row> rows{
      {"weights that overflow",
       changed(floating / "best.safetensors", folder / "conv.safetensors",
               [&](NamedTensors& f) { plain(f), fill(f, "conv1.weight", 3e38f); }),
       {"--model", "resnet20"},
       "the output of layer conv1 is not finite"},
      {"in the middle",
       changed(floating / "best.safetensors", folder / "middle.safetensors",
               [&](NamedTensors& f) { plain(f), fill(f, "layer2.1.bn1.weight", 3e38f); }),
       {"--model", "resnet20"},
       "the output of layer layer2.1.conv1 is not finite"},
      {"the classifier",
       changed(floating / "best.safetensors", folder / "fc.safetensors",
               [&](NamedTensors& f) { plain(f), fill(f, "fc.weight", 3e38f); }),
       {"--model", "resnet20"},
       "the output of layer fc is not finite"},
      {"a checkpoint",
       changed(floating / "best.safetensors", folder / "checkpoint.safetensors",
               [&](NamedTensors& f) { fill(f, "layer1.0.bn1.weight", 3e38f); }),
       {},
       "the output of layer layer1.0.conv1 is not finite"},
      {"a quantized checkpoint",
       changed(quantized / "best.safetensors", folder / "quantized.safetensors",
               [&](NamedTensors& f) {
                 fill(f, "layer1.0.bn1.weight", 3e38f);
                 fill(f, "layer1.0.bn1.running_var", 0);
               }),
       {},
       "layer1.0.conv1.multiplier is not finite"},
  };
  const Words shape{"--val-resize-size", "20", "--val-crop-size", "16", "--threads", "1"};
  for (const Row& row : rows) {
    const Words common = Words{"--weights", row.file} + row.how + shape;
    const auto refused = [&](const char* mode, const Words& more) {
      INFO(row.what << ", " << mode);
      const Outcome outcome = run_program(FAQ_EVAL, common + more);
      INFO(outcome.err);
      CHECK(outcome.code == 65);
      CHECK(outcome.out.empty());
      CHECK(outcome.err.find(row.message) != std::string::npos);
    };
    refused("evaluation", {"--data-path", data});
    refused("--json", {"--data-path", data, "--json"});
    refused("--per-class", {"--data-path", data, "--per-class"});
    refused("--predict", {"--predict", image});
    refused("--compare", {"--data-path", data, "--compare", row.file});
  }
  // A variance below zero is refused before.
  check_refused({"a negative variance", FAQ_EVAL,
                 Words{"--weights",
                       changed(floating / "best.safetensors", folder / "variance.safetensors",
                               [](NamedTensors& f) { fill(f, "bn1.running_var", -1e-3f); }),
                       "--data-path", data},
                 65, "negative variance in bn1.running_var: channel 0 is -0.001"});
}

TEST_CASE("files of faq without their checksums, bodies, and classes in another order are refused", "[cli]") {
  const TemporaryFolder folder;
  const fs::path floating = finished_run("none"), quantized = finished_run("faq");
  const std::string data = tiny_images().string();
  const Words on_data{"--data-path", data, "--val-resize-size", "20"};
  for (const char* name : {"best.safetensors", "integer.safetensors"})
    check_refused(
        {name, FAQ_EVAL,
         Words{"--weights", without_checksums(quantized / name, folder / "bare.safetensors")} + on_data, 65,
         "no checksums"});
  const auto plain = [](NamedTensors& file) { file.metadata.clear(); };
  const std::string body =
      changed(floating / "best.safetensors", folder / "body.safetensors", [&](NamedTensors& f) {
        plain(f);
        std::erase_if(f.tensors, [](const auto& entry) { return entry.first.starts_with("fc."); });
      });
  check_refused({"a body", FAQ_EVAL, Words{"--weights", body, "--model", "resnet20"} + on_data, 65,
                 "no classifier (fc.weight): a body alone cannot be evaluated"});
  check_refused({"a body, with its classes", FAQ_EVAL,
                 Words{"--weights", body, "--model", "resnet20", "--num-classes", "3"} + on_data, 65,
                 "missing fc.weight"});
  const std::string extra =
      changed(floating / "best.safetensors", folder / "extra.safetensors", [&](NamedTensors& f) {
        plain(f);
        f.add("head.weight", Tensor::zeros({2}));
      });
  check_refused({"extra tensors", FAQ_EVAL, Words{"--weights", extra, "--model", "resnet20"} + on_data, 65,
                 "1 mismatch: extra head.weight [2]"});
  const Outcome ignored = run_program(FAQ_EVAL, Words{"--weights", extra, "--model", "resnet20",
                                                      "--ignore-extra", "head.*", "--threads", "1"} +
                                                    on_data);
  CHECK(ignored.code == 0);
  CHECK(ignored.err.find("ignored 1 extra tensor: head.weight") != std::string::npos);
  const std::string turned =
      changed(floating / "best.safetensors", folder / "turned.safetensors",
              [](NamedTensors& f) { f.metadata["classes"] = R"(["slanted", "across", "down"])"; });
  check_refused({"another order", FAQ_EVAL, Words{"--weights", turned} + on_data, 64, "class 0 is 'across'"});
  check_refused({"another order compared", FAQ_EVAL,
                 Words{"--weights", (floating / "best.safetensors").string(), "--compare", turned} + on_data,
                 64, "class 0 is 'across'"});
}

TEST_CASE("a file names the classes of weights that do not, for data that have some of them", "[cli]") {
  const TemporaryFolder folder, some;
  for (const char* name : {"slanted", "down"})
    fs::copy(tiny_images() / "val" / name, some / name, fs::copy_options::recursive);
  const fs::path trained = finished_run("none") / "best.safetensors";
  const std::string plain =
      changed(trained, folder / "plain.safetensors", [](NamedTensors& f) { f.metadata.clear(); });
  const Words on_data{"--data-path", some.path().string(), "--val-resize-size", "20",
                      "--allow-empty-classes"};
  const Words words = Words{"--weights", plain, "--model", "resnet20"} + on_data;
  const auto named = [&](const std::string& names) {
    write_file(folder / "names", names);
    return words + Words{"--class-names", (folder / "names").string()};
  };
  const json known = result_of(Words{"--weights", trained.string()} + on_data);
  CHECK(known["images"] == 20);
  const json right = result_of(named("across\ndown\nslanted\n"));
  for (const char* key : {"top1", "loss", "images"}) CHECK(right[key] == known[key]);
  // The lines are the network's classes: their order counts.
  CHECK(result_of(named("across\nslanted\ndown\n"))["loss"] != known["loss"]);
  check_refused({"no names", FAQ_EVAL, words, 64, "has 2 classes, the network 3"});
  check_refused({"others", FAQ_EVAL, named("a\nb\nc\n"), 64, "none of which is 'down'"});
  check_refused({"too few", FAQ_EVAL, named("down\nslanted\n"), 65, "2 lines, the network has 3 classes"});
  check_refused({"names for nothing", FAQ_EVAL,
                 Words{"--weights", trained.string(), "--class-names", (folder / "names").string()} + on_data,
                 64, "--class-names has no effect"});
}

TEST_CASE("training begins with the classes of the data, whatever their order was", "[cli]") {
  const TemporaryFolder folder;
  const fs::path before = finished_run("none") / "best.safetensors";
  const std::string turned = changed(before, folder / "turned.safetensors", [&](NamedTensors& f) {
    f.metadata["classes"] = R"(["slanted", "across", "down"])";
    for (auto& [name, tensor] : f.tensors) {
      if (name != "fc.weight" && name != "fc.bias") continue;
      const Tensor old = tensor;
      tensor = old.clone();
      for (const auto& [to, from] : {std::pair{0, 2}, {1, 0}, {2, 1}})
        std::memcpy(tensor.rows(to, to + 1).mutable_raw(), old.rows(from, from + 1).raw(), old.bytes() / 3);
    }
  });
  const std::string others = changed(before, folder / "others.safetensors", [](NamedTensors& f) {
    f.metadata["classes"] = R"(["x", "across", "down"])";
  });
  const std::string body = changed(before, folder / "body.safetensors", [](NamedTensors& f) {
    std::erase_if(f.tensors, [](const auto& entry) { return entry.first.starts_with("fc."); });
  });
  const auto train = [&](const std::string& weights, const char* name) {
    const Outcome outcome =
        run_program(FAQ_TRAIN, {"--data-path", tiny_images().string(), "--weights", weights, "--output-dir",
                                (folder / name).string(), "--scheme", "none", "--epochs", "0", "--threads",
                                "1", "-j", "1", "--val-resize-size", "20"});
    INFO(outcome.err);
    REQUIRE(outcome.code == 0);
    return outcome.err;
  };
  CHECK(train(before.string(), "same").find("another order") == std::string::npos);
  CHECK(train(turned, "put right")
            .find("in another order; the classifier's rows are put in the data's (3 of 3") !=
        std::string::npos);
  CHECK(tensor_difference(folder / "same" / "best.safetensors", folder / "put right" / "best.safetensors")
            .empty());
  CHECK(train(others, "others").find("others (x, across, down) than the data") != std::string::npos);
  CHECK(train(body, "body").find("classifier re-initialised: ") != std::string::npos);
  for (const char* name : {"others", "body"}) {
    const std::string different =
        tensor_difference(folder / "same" / "best.safetensors", folder / name / "best.safetensors");
    CHECK(different.starts_with("fc."));
  }
}
