// Runs of several ranks, which are threads here (tests/fake_transport.h). tests/cluster_test.py runs them
// under MPI.
#include <atomic>
#include <thread>

#include "tests/fake_transport.h"
#include "tests/run_testing.h"
#include "train/evaluate.h"
#include "train/evaluation_data.h"
#include "train/metrics.h"
#include "train/option_table.h"
#include "train/quantized_training.h"
#include "train/ranks/rank_communicator.h"
#include "train/trainer.h"

using namespace faq;
using namespace faq::testing;

namespace {

// 200 images in shards of 8: 25 of them, so that the last step of an epoch has fewer than four.
std::vector<Setting> settings_for(const fs::path& output, const std::vector<Setting>& more = {}) {
  std::vector<Setting> settings{{"model", "resnet20"},
                                {"data-path", images().string()},
                                {"output-dir", output.string()},
                                {"epochs", "1"},
                                {"batch-size", "8"},
                                {"lr", "0.01"},
                                {"threads", "1"},
                                {"workers", "1"},
                                {"print-freq", "1"},
                                {"seed", "3"},
                                {"grad-dtype", "f32"},
                                {"shards", "4"},
                                {"calibration-batches", "2"}};
  settings.insert(settings.end(), more.begin(), more.end());
  return settings;
}

struct RankResult {
  TrainResult result;
  std::string error;
  int code = 0;
};

// Runs body(communicator) on every rank.
template <class Body>
std::vector<RankResult> on_ranks(int ranks, const Body& body) {
  const auto network = FakeNetwork::of(ranks);
  std::vector<RankResult> results(static_cast<std::size_t>(ranks));
  std::vector<std::thread> threads;
  for (int rank = 0; rank < ranks; ++rank)
    threads.emplace_back([&, rank] {
      RankResult& own = results[static_cast<std::size_t>(rank)];
      RankCommunicator communicator([&] { return network->open(rank); }, concat("host", rank),
                                    RankDeadlines(), [](const std::string&) {});
      try {
        own.result = body(communicator);
      } catch (const Error& error) {
        own.error = error.what();
        own.code = error.exit_code();
      }
      communicator.close();
    });
  for (std::thread& thread : threads) thread.join();
  return results;
}

std::vector<RankResult> train_on(int ranks, const std::vector<Setting>& settings,
                                 const StopToken& stop_of_last = {}, RunListener* listener = nullptr) {
  return on_ranks(ranks, [&](Communicator& communicator) {
    const TrainOptions options = assemble(json::object(), settings);
    const auto method = make_method(options);
    Metrics metrics;
    std::vector<RunListener*> listeners{&metrics};
    if (listener) listeners.push_back(listener);
    return train(options, *method,
                 {.listeners = listeners,
                  .stop = communicator.rank() == communicator.size() - 1 ? stop_of_last : StopToken(),
                  .ranks = &communicator});
  });
}

void require_no_error(const std::vector<RankResult>& results) {
  for (const RankResult& result : results) REQUIRE(result.error == "");
}

void train_alone(const std::vector<Setting>& settings) {
  const TrainOptions options = assemble(json::object(), settings);
  const auto method = make_method(options);
  Metrics metrics;
  train(options, *method, {.listeners = {&metrics}});
}

std::vector<std::vector<std::string>> rows_without_speed(const fs::path& folder) {
  std::vector<std::vector<std::string>> kept;
  for (const std::string& line : lines_of(file_bytes(folder / "summary.csv"))) {
    auto& row = kept.emplace_back(split(line));
    row.erase(row.begin() + 7);
  }
  return kept;
}

void check_same(const fs::path& actual, const fs::path& expected) {
  for (const char* name : {"last.safetensors", "best.safetensors", "integer.safetensors"}) {
    INFO(name);
    REQUIRE(fs::exists(actual / name) == fs::exists(expected / name));
    if (fs::exists(expected / name)) CHECK(tensor_difference(actual / name, expected / name).empty());
  }
  CHECK(rows_without_speed(actual) == rows_without_speed(expected));
}

const std::vector<Setting> faq4{{"scheme", "faq"}, {"bits", "4"}};

std::vector<Setting> operator+(std::vector<Setting> a, const std::vector<Setting>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

// A float network, trained once.
fs::path trained() {
  static const TemporaryFolder folder;
  static const bool done = (train_alone(settings_for(folder.path())), true);
  (void)done;
  return folder / "best.safetensors";
}

struct StopAfter final : RunListener {
  StopToken token;
  std::int64_t at;
  explicit StopAfter(std::int64_t step) : at(step) {}
  void step(const StepDone& event) override {
    if (event.step == at) token.request_stop();
  }
};

}  // namespace

TEST_CASE("shards train the same network on any number of ranks", "[ranks]") {
  struct Row {
    const char* what;
    std::vector<Setting> settings;
    std::vector<int> ranks;
  };
  const Row rows[] = {
      {"float", {}, {2, 4}},
      {"faq", faq4, {2, 4}},
      {"faq, six shards, clipped, smoothed",
       faq4 + std::vector<Setting>{{"shards", "6"}, {"clip-grad-norm", "1"}, {"label-smoothing", "0.1"}},
       {2, 3, 6}},
      {"ternary, statistics taken anew",
       {{"scheme", "dfp"}, {"weight-bits", "2"}, {"batch-norm-batches", "3"}},
       {2}},
      {"joint distillation, averaged",
       faq4 + std::vector<Setting>{{"distill", "joint"}, {"model-ema", "0.5"}},
       {4}},
      {"frozen distillation",
       faq4 + std::vector<Setting>{{"distill", "frozen"}, {"teacher", trained().string()}},
       {2}},
      {"two stages, stochastic, scales held",
       faq4 + std::vector<Setting>{{"epochs", "2"},
                                   {"stages", "weights,both"},
                                   {"stochastic-precision", "0.5"},
                                   {"hold-weight-scales", "0.3"}},
       {2}},
      {"statistics frozen",
       faq4 + std::vector<Setting>{{"epochs", "2"},
                                   {"freeze-batch-norm-stats", "0.6"},
                                   {"batch-norm-batches", "2"}},
       {2}},
      {"learned scales",
       {{"scheme", "lsq"},
        {"bits", "4"},
        {"weight-scales", "channel"},
        {"epochs", "2"},
        {"stages", "weights,both"},
        {"stochastic-precision", "0.5"},
        {"model-ema", "0.5"}},
       {2, 4}},
      {"8-bit gradients", faq4 + std::vector<Setting>{{"grad-dtype", "s8"}}, {2, 4}},
      {"16 bits", faq4 + std::vector<Setting>{{"allreduce", "s16"}}, {2, 4}},
      {"shards larger than the set", {{"batch-size", "300"}, {"shards", "2"}, {"epochs", "2"}}, {2}},
  };
  for (const Row& row : rows) {
    INFO(row.what);
    const TemporaryFolder alone;
    train_alone(settings_for(alone.path(), row.settings));
    for (const int ranks : row.ranks) {
      INFO(ranks << " ranks");
      const TemporaryFolder together;
      require_no_error(train_on(ranks, settings_for(together.path(), row.settings)));
      check_same(together.path(), alone.path());
    }
  }
}

TEST_CASE("a stopped run goes on with another number of ranks", "[ranks]") {
  const auto settings = [](const fs::path& output, const std::vector<Setting>& more = {}) {
    return settings_for(output, faq4 + std::vector<Setting>{{"epochs", "2"}, {"model-ema", "0.5"}} + more);
  };
  const TemporaryFolder whole, parts;
  train_alone(settings(whole.path()));
  struct Part {
    int ranks;
    std::int64_t stop_at;
  };
  for (const Part part : {Part{4, 2}, Part{2, 6}, Part{1, 9}, Part{4, -1}}) {
    INFO(part.ranks << " ranks until step " << part.stop_at);
    StopAfter stop(part.stop_at);
    // What the first rank hears stops the last one. The shards are those of the checkpoint.
    const auto results = train_on(
        part.ranks, settings(parts.path(), {{"resume", "auto"}, {"shards", part.stop_at == 2 ? "4" : "0"}}),
        stop.token, &stop);
    require_no_error(results);
    for (const RankResult& result : results) CHECK(result.result.stopped == (part.stop_at > 0));
  }
  check_same(parts.path(), whole.path());
}

TEST_CASE("an evaluation counts the same on any number of ranks", "[ranks]") {
  const TemporaryFolder run;
  train_alone(settings_for(run.path(), faq4));
  const auto evaluate_by = [&](Communicator& ranks) {
    TrainOptions options;
    options.data_path = images().string();
    options.workers = 0;
    const Network network = open_network({.weights = (run / "integer.safetensors").string()});
    const EvaluationData data = open_evaluation_data(network, options, 7, Split::val, ranks);
    RunListener listener;
    Scores scores;
    return evaluate(network.forward, *data.loader, scores, listener, {}, ranks);
  };
  const Evaluation alone = evaluate_by(single_process());
  CHECK(alone.images == 50);
  for (const int n : {2, 3, 5, 11}) {  // eight batches: some ranks have none
    INFO(n << " ranks");
    require_no_error(on_ranks(n, [&](Communicator& ranks) {
      set_num_threads(1);
      const Evaluation together = evaluate_by(ranks);
      check(together.images == alone.images && together.top1 == alone.top1 && together.top5 == alone.top5 &&
                together.loss == alone.loss,
            ErrorKind::internal, "rank ", ranks.rank(), ": ", together.images, " images, top-1 ",
            together.top1, ", loss ", together.loss);
      return TrainResult();
    }));
  }
}

TEST_CASE("ranks that cannot train together are refused", "[ranks]") {
  const TemporaryFolder output;
  const auto run = [&](const auto& change) {
    return on_ranks(2, [&](Communicator& ranks) {
      std::vector<Setting> settings = settings_for(output.path());
      change(settings, ranks.rank());
      const TrainOptions options = assemble(json::object(), settings);
      const auto method = make_method(options);
      return train(options, *method, {.ranks = &ranks});
    });
  };
  const auto refused = [&](const auto& change, int code, const std::string& text) {
    INFO(text);
    for (const RankResult& result : run(change)) {
      CHECK(result.code == code);
      CHECK(result.error.find(text) != std::string::npos);
    }
  };
  using Settings = std::vector<Setting>;
  refused([](Settings& s, int rank) { s.emplace_back("lr", rank == 0 ? "0.1" : "0.2"); }, 64,
          "the ranks differ: option lr is 0.1 on rank 0 of 2 (host0), 0.2 on rank 1 of 2 (host1)");
  refused([](Settings& s, int rank) { s.emplace_back("threads", rank == 0 ? "1" : "2"); }, 64,
          "number of threads is 1 on rank 0 of 2 (host0), 2 on rank 1 of 2 (host1)");
  refused([](Settings& s, int) { s.emplace_back("shards", "3"); }, 64,
          "`shards` 3: 2 ranks do not divide it");
  const TemporaryFolder other;
  write_data_set(other.path(), 200, 50, 24);  // the same names
  refused(
      [&](Settings& s, int rank) {
        if (rank == 1) s.emplace_back("data-path", other.path().string());
      },
      64, "the ranks differ: data: pixels of images for training");
  refused(
      [&](Settings& s, int rank) {
        if (rank == 1) s.emplace_back("weights", "none.safetensors");
      },
      66, "none.safetensors");
  CHECK_FALSE(fs::exists(output / "last.safetensors"));
}

TEST_CASE("an image that one rank cannot read ends all ranks", "[ranks]") {
  const TemporaryFolder data, output;
  write_data_set(data.path(), 40, 10);
  write_file(data / "train" / "down" / "1001.png", "no image");
  const std::vector<Setting> more{{"data-path", data.path().string()}, {"batch-size", "5"}};
  const auto results = train_on(4, settings_for(output / "a", more));
  int named = 0;
  for (const RankResult& result : results) {
    CHECK(result.code == 65);
    CHECK(result.error.find("1001.png") != std::string::npos);
    named += result.error.find(" of 4 (host") != std::string::npos;
  }
  CHECK(named == 3);  // all but the rank that met it
  const auto skipping =
      train_on(4, settings_for(output / "b", more + std::vector<Setting>{{"skip-bad", "1"}}));
  require_no_error(skipping);
  CHECK(skipping.front().result.skipped == 1);
  train_alone(settings_for(output / "c", more + std::vector<Setting>{{"skip-bad", "1"}}));
  check_same(output / "b", output / "c");
}

TEST_CASE("a network that diverges on one rank diverges on all", "[ranks]") {
  const TemporaryFolder output;
  const auto results =
      train_on(4, settings_for(output.path(), {{"lr", "1e6"}, {"weight-decay", "1e6"}, {"epochs", "3"}}));
  for (const RankResult& result : results) {
    CHECK(result.code == 76);
    CHECK(result.error.find("training diverged") != std::string::npos);
  }
}

TEST_CASE("ranks whose networks drift apart are stopped", "[ranks]") {
  struct Drifting final : Method {
    int rank;
    explicit Drifting(int its_rank) : rank(its_rank) {}
    PrecisionPlan before_step(Model& model, double, std::int64_t step) override {
      if (rank == 1 && step == 3)
        parameters(model).front().value.mutable_value().mutable_data<float>()[0] += 1e-3f;
      return {};
    }
  };
  const TemporaryFolder output;
  const auto results = on_ranks(2, [&](Communicator& ranks) {
    Drifting method(ranks.rank());
    return train(assemble(json::object(), settings_for(output.path())), method, {.ranks = &ranks});
  });
  for (const RankResult& result : results) {
    CHECK(result.code == 70);
    CHECK(result.error.find("rank 1 of 2 (host1) has other weights than rank 0 of 2 (host0)") !=
          std::string::npos);
  }
}

TEST_CASE("names of files that are not UTF-8 reach every rank", "[ranks]") {
  const TemporaryFolder folder;
  const fs::path output = folder / "caf\xe9";
  require_no_error(train_on(2, settings_for(output)));
  CHECK(fs::exists(output / "best.safetensors"));
  CHECK(std::distance(fs::directory_iterator(folder.path()), fs::directory_iterator()) == 1);
}
