// The page about a run: what is in it, what may not be in it, and faq-report.
#include <numeric>

#include "core/json.h"
#include "data/decode.h"
#include "data/encode.h"
#include "tests/programs.h"
#include "tests/run_testing.h"
#include "train/confusion.h"
#include "train/report_details.h"
#include "train/report_page.h"

using namespace faq;
using namespace faq::testing;
using nlohmann::json;

namespace {

const Words short_run{"--scheme", "faq",      "--bits",    "4",    "-b",
                      "20",       "--epochs", "1",         "--lr", "0.05",
                      "-j",       "1",        "--threads", "1",    "--calibration-batches",
                      "2",        "--quiet"};

Outcome train_in(const fs::path& output, const Words& more = {}) {
  return run_program(
      FAQ_TRAIN,
      Words{"--data-path", tiny_images().string(), "--output-dir", output.string()} + short_run + more);
}

// A run that began with float weights, as runs do.
const fs::path& reported_run() {
  static const TemporaryFolder folder;
  static const fs::path run = folder / "from-float";
  static const Outcome outcome = train_in(
      run, {"--weights", (finished_run("none") / "best.safetensors").string(), "--residual-bits", "8"});
  INFO(outcome.err);
  REQUIRE(outcome.code == 0);
  return run;
}

json data_of(const std::string& page) {
  const std::string begin = "<script type=\"application/json\" id=\"data\">";
  const std::size_t at = page.find(begin) + begin.size();
  return parse_json(page.substr(at, page.find("</script>", at) - at), "page");
}

json page_data(const fs::path& file) { return data_of(file_bytes(file)); }

std::int64_t sum_of(const json& counts) {
  const auto numbers = counts.get<std::vector<std::int64_t>>();
  return std::accumulate(numbers.begin(), numbers.end(), std::int64_t{0});
}

void copy_run(const fs::path& from, const fs::path& to) {
  fs::create_directories(to);
  for (const char* name : {"run.json", "config.json", "metrics.jsonl", "summary.csv", "report.json"})
    fs::copy_file(from / name, to / name);
}

}  // namespace

TEST_CASE("JSON in a page ends nothing of it", "[report]") {
  struct Row {
    const char *text, *json;
  };
  const Row rows[] = {
      {"cat", "\"cat\""},
      {"</script>", "\"\\u003c/script\\u003e\""},
      {"<!--", "\"\\u003c!--\""},
      {"a & b", "\"a \\u0026 b\""},
      {"\"quoted\" 'so'", "\"\\\"quoted\\\" 'so'\""},
      {"two\nlines", "\"two\\nlines\""},
      {"caf\xe9", "\"caf\xef\xbf\xbd\""},
  };
  for (const Row& row : rows) {
    INFO(row.text);
    CHECK(script_json(row.text) == row.json);
  }
}

TEST_CASE("small images as JPEG", "[report]") {
  for (const int channels : {1, 3}) {
    Image image{20, 30, channels, {}};
    for (int i = 0; i < 20 * 30 * channels; ++i)
      image.pixels.push_back(static_cast<std::uint8_t>(100 + i / (30 * channels) * 4));
    const std::string bytes = encode_jpeg(image, 95);
    const Image decoded = decode_image(std::as_bytes(std::span(bytes)), channels, "encoded");
    REQUIRE(decoded.height == 20);
    REQUIRE(decoded.width == 30);
    int largest = 0;
    for (std::size_t i = 0; i < image.pixels.size(); ++i)
      largest = std::max(largest, std::abs(image.pixels[i] - decoded.pixels[i]));
    CHECK(largest <= 6);
  }
  CHECK_THROWS_AS(encode_jpeg({2, 2, 3, std::vector<std::uint8_t>(11)}, 90), Error);
}

TEST_CASE("pairs of classes are counted", "[report]") {
  Confusion confusion;
  const Tensor logits = Tensor::from({5, 3}, {9, 1, 2, 1, 9, 2, 5, 5, 1, 0, 1, 7, 0, 1, 7});
  confusion.add(logits, std::vector<std::int32_t>{0, 0, 1, 1, 1});  // of equal logits the first wins
  using Cell = Confusion::Cell;
  CHECK(confusion.cells() == std::vector<Cell>{{0, 0, 1}, {0, 1, 1}, {1, 0, 1}, {1, 2, 2}});
  CHECK(confusion.most_confused(2) == std::vector<Cell>{{1, 2, 2}, {0, 1, 1}});
  CHECK(confusion.count(1, 2) == 2);
  CHECK(confusion.count(2, 2) == 0);
}

TEST_CASE("a run leaves a page that holds its figures", "[report]") {
  const fs::path& folder = reported_run();
  const std::string page = file_bytes(folder / "report.html");
  CHECK(page.size() < 2'000'000);
  for (const char* outside : {"http://", "https://", "<link", "@import", "url("}) {
    INFO(outside);
    std::string ours = page;  // but for the names of SVG, which nobody fetches
    const std::string name = "http://www.w3.org/2000/svg";
    for (std::size_t at = 0; (at = ours.find(name)) != std::string::npos;) ours.erase(at, name.size());
    CHECK(ours.find(outside) == std::string::npos);
  }
  const json data = data_of(page);
  REQUIRE(data["runs"].size() == 1);
  const json& run = data["runs"][0];
  CHECK(run["config"] == json::parse(file_bytes(folder / "config.json")));
  CHECK(run["about"]["threads"] == 1);
  CHECK(run["epochs"].size() == 2);
  CHECK(run["steps"].empty());  // three steps, and every fiftieth is written down
  CHECK(run["widths"] == "4-bit weights, 4-bit activations (8 on residual connections)");

  const json& details = run["details"];
  CHECK(details["notes"].empty());
  std::vector<std::string> names;
  for (const json& stage : details["stages"]) names.push_back(stage["name"]);
  CHECK(names == std::vector<std::string>{"float", "calibrated", "fine-tuned"});
  const json last = details["stages"].back();
  const json deployed = result_of({"--weights", (folder / "integer.safetensors").string(), "--data-path",
                                   tiny_images().string(), "--confusion"});
  CHECK(last["top1"] == deployed["top1"]);
  CHECK(last["loss"].get<double>() == Approx(deployed["loss"].get<double>()));
  CHECK(last["bytes"] == fs::file_size(folder / "integer.safetensors"));
  const json before = result_of({"--weights", (finished_run("none") / "best.safetensors").string(),
                                 "--data-path", tiny_images().string()});
  CHECK(details["stages"][0]["top1"] == before["top1"]);

  // Every image is in one cell, and the wrong ones are shown.
  const json& confusion = details["confusion"];
  CHECK(confusion["classes"] == json({"across", "down", "slanted"}));
  CHECK(confusion["cells"] == deployed["confusion"]["cells"]);
  std::int64_t images = 0, wrong = 0;
  for (const json& cell : confusion["cells"]) {
    images += cell[2].get<std::int64_t>();
    if (cell[0] != cell[1]) wrong += cell[2].get<std::int64_t>();
  }
  CHECK(images == 30);
  CHECK(static_cast<std::int64_t>(details["mistakes"].size()) == wrong);
  double before_it = 1;
  for (const json& mistake : details["mistakes"]) {
    CHECK(mistake["label"] != mistake["predicted"]);
    CHECK(mistake["probability"].get<double>() <= before_it);
    before_it = mistake["probability"];
    CHECK(mistake["jpeg"].get<std::string>().starts_with("/9j/"));  // how every JPEG begins in base64
  }

  REQUIRE(details["layers"].size() > 20);
  int convolutions = 0;
  for (const json& row : details["layers"]) {
    INFO(row["name"]);
    if (row["kind"] != "conv") continue;
    ++convolutions;
    CHECK(row["macs"].get<std::int64_t>() > 0);
    CHECK(row["cosine"].get<double>() > 0.5);
    CHECK(row["weights"]["counts"].size() <= report_limits::bars);
    CHECK(sum_of(row["weights"]["counts"]) == sum_of(row["masters"]["counts"]));
    CHECK(row["weights"]["scale"] == row["weight_scale"]);
    // Thirty images are fewer than a sample has, so all of them are counted.
    std::int64_t outputs = 30;
    for (const json& extent : row["output"]) outputs *= extent.get<std::int64_t>();
    CHECK(sum_of(row["activations"]["counts"]) == outputs);
    for (const char* share : {"weights_clipped", "activations_clipped"}) {
      CHECK(row[share].get<double>() >= 0);
      CHECK(row[share].get<double>() < 50);
    }
    CHECK(row["error_ratio"].get<double>() > 0.9);
  }
  CHECK(convolutions == 19 + (details["layers"].size() > 30 ? 2 : 0));
}

TEST_CASE("what a page leaves out", "[report]") {
  const TemporaryFolder folder;
  struct Row {
    const char* kind;
    bool page, details;
  };
  for (const Row& row : {Row{"none", false, false}, Row{"curves", true, false}}) {
    INFO(row.kind);
    const fs::path run = folder / row.kind;
    REQUIRE(train_in(run, {"--report", row.kind}).code == 0);
    CHECK(fs::exists(run / "report.html") == row.page);
    CHECK(fs::exists(run / "report.json") == row.details);
  }
  const json run = page_data(folder / "curves" / "report.html")["runs"][0];
  CHECK(run["details"].is_null());
  REQUIRE(run["stages"].size() == 2);
  CHECK(run["stages"][0]["name"] == "calibrated");
  CHECK(run["stages"][1]["name"] == "fine-tuned");

  // Weights that are gone by the end cost a row, and no result.
  const fs::path weights = folder / "weights.safetensors";
  fs::copy_file(finished_run("none") / "best.safetensors", weights);
  REQUIRE(train_in(folder / "gone", {"--weights", weights.string(), "--epochs", "1"}).code == 0);
  fs::remove(weights);
  const Outcome again =
      train_in(folder / "gone", {"--weights", weights.string(), "--epochs", "1", "--resume", "auto"});
  INFO(again.err);
  CHECK(again.code == 0);
  CHECK(again.err.find("warning: report.html lacks the network before quantizing: ") != std::string::npos);
  CHECK(page_data(folder / "gone" / "report.html")["runs"][0]["details"]["notes"].size() == 2);
}

TEST_CASE("names of anybody are text in a page", "[report]") {
  const TemporaryFolder folder;
  const std::string names[] = {"<img src=x onerror=alert(1)>", "\"quoted\"\n'twice'", "&amp; caf\xe9"};
  for (int i = 0; i < 60; ++i)
    write_file(folder / "data" / (i < 45 ? "train" : "val") / names[i % 3] / concat(1000 + i, "<b>.png"),
               png(pattern(i % 3, 16, static_cast<std::uint64_t>(i))));
  const fs::path run = folder / "<i>run";
  const Outcome outcome =
      run_program(FAQ_TRAIN, Words{"--data-path", (folder / "data").string(), "--output-dir", run.string()} +
                                 short_run + Words{"--lr", "0"});
  INFO(outcome.err);
  REQUIRE(outcome.code == 0);
  const std::string page = file_bytes(run / "report.html");
  CHECK(page.find("<img") == std::string::npos);
  CHECK(page.find("<b>") == std::string::npos);
  CHECK(page.find("<i>run") == std::string::npos);
  const json details = data_of(page)["runs"][0]["details"];
  CHECK(details["confusion"]["classes"] == json({names[1], "&amp; caf\xef\xbf\xbd", names[0]}));
  REQUIRE_FALSE(details["mistakes"].empty());
  CHECK(details["mistakes"][0]["image"].get<std::string>().ends_with("<b>.png"));
}

TEST_CASE("a run whose preset is gone has a page", "[report]") {
  const TemporaryFolder folder;
  copy_run(reported_run(), folder / "run");
  json config = json::parse(file_bytes(folder / "run" / "config.json"));
  config["preset"] = "faq-of-another-version";
  write_file(folder / "run" / "config.json", config.dump());
  const Outcome outcome = run_program(FAQ_REPORT, {(folder / "run").string()});
  INFO(outcome.err);
  CHECK(outcome.code == 0);
}

TEST_CASE("faq-report makes pages of runs", "[report]") {
  const TemporaryFolder folder;
  const fs::path run = folder / "run";
  copy_run(reported_run(), run);
  // The page of one run anew: the bytes of the run's own, but for the folder.
  const Outcome alone = run_program(FAQ_REPORT, {run.string(), "--json"});
  INFO(alone.err);
  REQUIRE(alone.code == 0);
  CHECK(json::parse(alone.out)["file"] == (run / "report.html").string());
  json made = page_data(run / "report.html"), own = page_data(reported_run() / "report.html");
  for (json* data : {&made, &own}) {
    (*data)["runs"][0].erase("folder");
    (*data)["runs"][0].erase("name");
  }
  CHECK(made == own);

  // Two of them, the better one first, with what differs between them.
  const std::string head =
      "epoch,train_loss,train_top1,val_loss,top1,top5,lr,images_per_s,skipped,recoverable_faults\n";
  const fs::path better = folder / "better";
  copy_run(run, better);
  write_file(
      better / "summary.csv",
      head + "0,,,1.5,10,50,,,0,0\n1,1,50,0.1,99.5,100,0.05,200,0,0\n2,1,50,0.2,98,100,0.05,200,0,0\n");
  json config = json::parse(file_bytes(better / "config.json"));
  config["lr"] = 0.125;
  write_file(better / "config.json", config.dump());
  write_file(better / "metrics.jsonl",
             "{\"step\":1,\"epoch\":0.5,\"train_loss\":2,\"lr\":0.05}\n{\"epoch\":1,\"val_loss\":1}\n{"
             "\"step\":2,\"epo");
  const Outcome both =
      run_program(FAQ_REPORT, {run.string(), better.string(), "--output", (folder / "both.html").string()});
  INFO(both.err);
  REQUIRE(both.code == 0);
  const std::string page = file_bytes(folder / "both.html");
  const json data = data_of(page);
  REQUIRE(data["runs"].size() == 2);
  CHECK(data["runs"][0]["name"] == "better");
  CHECK(data["runs"][1]["name"] == "run");
  CHECK(data["runs"][0]["steps"].size() == 1);  // the last line was cut short
  CHECK(data["runs"][0]["details"].is_null());
  CHECK(page.find("<th scope=\"row\">better</th><td>99.50 %</td><td>1</td><td>98.00</td>") !=
        std::string::npos);
  CHECK(page.find("<th scope=\"row\">lr</th><td>0.125</td><td>0.05</td>") != std::string::npos);
  CHECK(page.find("<th scope=\"row\">momentum</th>") == std::string::npos);
}

TEST_CASE("a page of another network does not outlive it", "[report]") {
  const TemporaryFolder folder;
  const fs::path run = folder / "run";
  const Words options{"--scheme", "faq", "--bits", "4", "--hold-weight-scales", "1"};
  require_done(train_by_program(run, options + Words{"--epochs", "1"}));
  REQUIRE(fs::exists(run / "report.json"));
  const Words longer = options + Words{"--epochs", "2", "--resume", "auto", "--report", "none"};
  require_done(train_by_program(run, longer));
  CHECK_FALSE(fs::exists(run / "report.json"));
  CHECK_FALSE(fs::exists(run / "report.html"));
  // With nothing left to train, the page stays.
  const Outcome page = run_program(FAQ_REPORT, {run.string()});
  REQUIRE(page.code == 0);
  require_done(train_by_program(run, longer));
  CHECK(fs::exists(run / "report.html"));
  // A folder that was cleared of its checkpoints still has what is deployed.
  for (const char* name : {"best.safetensors", "last.safetensors"}) fs::remove(run / name);
  for (const auto& entry : fs::directory_iterator(run))
    if (entry.path().filename().string().starts_with("checkpoint")) fs::remove(entry.path());
  const Outcome again = train_by_program(run, options + Words{"--epochs", "1"});
  INFO(again.err);
  CHECK(again.code == 64);
  CHECK(again.err.find("holds an earlier run") != std::string::npos);
  const Outcome resumed = train_by_program(run, options + Words{"--epochs", "1", "--resume", "auto"});
  INFO(resumed.err);
  CHECK(resumed.code == 65);
  CHECK(resumed.err.find("and no checkpoint: begin in another folder") != std::string::npos);
}

TEST_CASE("faq-report refuses what is no run", "[report]") {
  const TemporaryFolder folder;
  write_file(folder / "mine.json", "{}");
  const auto damaged = [&](const char* name, const char* file, const std::string& text) {
    copy_run(reported_run(), folder / name);
    text.empty() ? (void)fs::remove(folder / name / file) : write_file(folder / name / file, text);
    return (folder / name).string();
  };
  const std::string good = reported_run().string();
  const std::string head = "epoch,val_loss,top1,top5\n";
  const Refusal rows[] = {
      {"no run", FAQ_REPORT, {}, 64, "a run is required"},
      {"too many", FAQ_REPORT, Words(25, good), 64, "25 runs: expected at most 24"},
      {"a file that is no page",
       FAQ_REPORT,
       {good, "--output", (folder / "mine.json").string()},
       64,
       "a file is there that is not called a page"},
      {"an option of others", FAQ_REPORT, {good, "--epochs", "3"}, 64, "unknown option '--epochs'"},
      {"no folder", FAQ_REPORT, {(folder / "none").string()}, 66, "is no folder"},
      {"a file", FAQ_REPORT, {(reported_run() / "run.json").string()}, 66, "is no folder"},
      {"no run.json", FAQ_REPORT, {damaged("a", "run.json", "")}, 66, "run.json"},
      {"no config.json", FAQ_REPORT, {damaged("b", "config.json", "")}, 66, "config.json"},
      {"no metrics", FAQ_REPORT, {damaged("c", "metrics.jsonl", "")}, 66, "metrics.jsonl"},
      {"no summary", FAQ_REPORT, {good, damaged("d", "summary.csv", "")}, 66, "summary.csv"},
      {"run.json cut", FAQ_REPORT, {damaged("e", "run.json", "{\"isa\":")}, 65, "run.json"},
      {"run.json a list", FAQ_REPORT, {damaged("f", "run.json", "[]")}, 65, "expected a JSON object"},
      {"an option unknown", FAQ_REPORT, {damaged("g", "config.json", "{\"gpus\":8}")}, 65, "config.json"},
      {"an option absurd", FAQ_REPORT, {damaged("h", "config.json", "{\"epochs\":[]}")}, 65, "config.json"},
      {"summary of nothing", FAQ_REPORT, {damaged("i", "summary.csv", "\n")}, 65, "no column epoch"},
      {"summary without top-1",
       FAQ_REPORT,
       {damaged("j", "summary.csv", "epoch,val_loss,top5\n")},
       65,
       "no column top1"},
      {"summary short",
       FAQ_REPORT,
       {damaged("k", "summary.csv", head + "1,2\n")},
       65,
       "line 2: 2 values, expected 4"},
      {"summary of words",
       FAQ_REPORT,
       {damaged("l", "summary.csv", head + "1,2,<b>,4\n")},
       65,
       "'<b>' is no number"},
      {"summary not finite",
       FAQ_REPORT,
       {damaged("m", "summary.csv", head + "1,2,inf,4\n")},
       65,
       "'inf' is no number"},
      {"an epoch that cannot be",
       FAQ_REPORT,
       {damaged("half", "summary.csv", head + "1.5,2,3,4\n")},
       65,
       "line 2: epoch 1.5"},
      {"an accuracy that cannot be",
       FAQ_REPORT,
       {damaged("much", "summary.csv", head + "1,2,101,4\n")},
       65,
       "line 2: top1 101"},
      {"metrics of words",
       FAQ_REPORT,
       {damaged("n", "metrics.jsonl", "{\"epoch\":\"x\"}\n")},
       65,
       "line 1: epoch is no number"},
      {"metrics damaged",
       FAQ_REPORT,
       {damaged("o", "metrics.jsonl", "{\"ep\n{\"epoch\":1}\n")},
       65,
       "line 1: expected a JSON object"},
      {"details of later",
       FAQ_REPORT,
       {damaged("p", "report.json", "{\"format\":2}")},
       65,
       "expected format 1"},
      {"details without layers",
       FAQ_REPORT,
       {damaged("q", "report.json", "{\"format\":1,\"stages\":[]}")},
       65,
       "no list layers"},
      {"details of words",
       FAQ_REPORT,
       {damaged(
           "r", "report.json",
           R"({"format":1,"stages":[{"name":"float","top1":"x"}],"layers":[],"mistakes":[],"notes":[]})")},
       65,
       "top1 of a stage is no number"},
      {"nowhere to write",
       FAQ_REPORT,
       {good, "--output", (folder / "none" / "x.html").string()},
       74,
       "x.html"},
  };
  for (const Refusal& row : rows) check_refused(row);
}
