#include <cmath>
#include <set>

#include "tests/testing.h"
#include "tools/option_text.h"
#include "train/option_table.h"
#include "train/schedule.h"

using namespace faq;
using namespace faq::testing;
using nlohmann::json;

TEST_CASE("schedules have their exact values", "[schedule]") {
  struct Row {
    ScheduleOptions options;
    double epoch, rate;
  };
  const ScheduleOptions constant{.lr = 0.5};
  const ScheduleOptions exponential{.schedule = Schedule::exponential, .lr = 1, .gamma = 0.5};
  const ScheduleOptions step{.schedule = Schedule::step, .lr = 1, .gamma = 0.1, .step_size = 30};
  const int epochs[] = {1, 3, 2};
  const std::vector<Phase> unequal = phases_of(epochs);
  REQUIRE(unequal.size() == 3);
  for (std::size_t i = 0; i < 3; ++i) {
    CHECK(unequal[i].index == static_cast<int>(i));
    CHECK(unequal[i].epochs() == epochs[i]);
    CHECK(unequal[i].begin == (i == 0 ? 0 : unequal[i - 1].end));
  }

  const ScheduleOptions cosine{.schedule = Schedule::cosine, .lr = 2, .epochs = 10};
  const ScheduleOptions warm{.schedule = Schedule::cosine, .lr = 2, .warmup_epochs = 2, .epochs = 12};
  const ScheduleOptions warm_step{
      .schedule = Schedule::exponential, .lr = 1, .gamma = 0.5, .warmup_epochs = 0.5, .epochs = 12};
  const Row rows[] = {
      {constant, 0, 0.5},    {constant, 7.3, 0.5},
      {exponential, 0, 1},   {exponential, 0.99, 1},
      {exponential, 1, 0.5}, {exponential, 3.5, 0.125},
      {step, 29.9, 1},       {step, 30, 0.1},
      {step, 60, 0.01},      {cosine, 0, 2},
      {cosine, 5, 1},        {cosine, 10, 0},
      {cosine, 11, 0},       {cosine, 2.5, 1 + std::sqrt(0.5)},
      {warm, 0, 0.02},       {warm, 1, 1.01},
      {warm, 2, 2},          {warm, 7, 1},
      {warm, 12, 0},         {warm_step, 0.25, 0.505},
      {warm_step, 1.4, 1},   {warm_step, 1.5, 0.5},
  };
  for (const Row& row : rows) {
    INFO("epoch " << row.epoch << ", expected " << row.rate);
    CHECK(learning_rate(row.options, row.epoch) == Approx(row.rate).margin(1e-12));
  }
  CHECK(exponential_lr(0.0015, 0.936, 110) == Approx(0.0015 * std::pow(0.936, 110)));
  CHECK(step_lr(0.1, 0.1, 30, 89) == Approx(0.001));
  CHECK(cosine_lr(1, 4, 1) == Approx(0.5 + 0.5 * std::sqrt(0.5)));
}

TEST_CASE("phases share the epochs and repeat the schedule", "[schedule]") {
  struct Row {
    std::int64_t epochs;
    int count;
    std::vector<std::int64_t> ends;
  };
  for (const Row& row : {Row{8, 1, {8}}, Row{8, 4, {2, 4, 6, 8}}, Row{5, 2, {2, 5}}, Row{3, 3, {1, 2, 3}}}) {
    INFO(row.epochs << " epochs in " << row.count);
    const std::vector<Phase> phases = split_into_phases(row.epochs, row.count);
    std::vector<std::int64_t> ends;
    for (std::size_t i = 0; i < phases.size(); ++i) {
      ends.push_back(phases[i].end);
      CHECK(phases[i].index == static_cast<int>(i));
      CHECK(phases[i].begin == (i == 0 ? 0 : phases[i - 1].end));
      for (std::int64_t epoch = phases[i].begin; epoch < phases[i].end; ++epoch)
        CHECK(&phase_at(phases, epoch) == &phases[i]);
    }
    CHECK(ends == row.ends);
    CHECK(&phase_at(phases, row.epochs) == &phases.back());
  }
  const std::vector<Phase> none = split_into_phases(0, 3);
  REQUIRE(none.size() == 1);
  CHECK(none[0].index == 2);
  CHECK(none[0].epochs() == 0);

  const ScheduleOptions cosine{.schedule = Schedule::cosine, .lr = 2, .epochs = 99};
  const Phase phase{.index = 1, .begin = 2, .end = 6};
  CHECK(learning_rate(cosine, phase, 2) == Approx(2));
  CHECK(learning_rate(cosine, phase, 4) == Approx(1));
  CHECK(learning_rate(cosine, phase, 6) == Approx(0).margin(1e-12));
  CHECK(phase.done(5) == 0.75);
}

TEST_CASE("every option has names of its own", "[options]") {
  std::set<std::string> names;
  for (const OptionRow& row : option_table()) {
    REQUIRE(!row.names.empty());
    INFO(row.names.front());
    const cli::OptionText& text = cli::text_of_option(row.names.front());
    CHECK(*text.section != '\0');
    CHECK(*text.value != '\0');
    CHECK(*text.help != '\0');
    CHECK(row.names.front().size() > 1);  // the canonical name is a word
    for (const std::string& name : row.names) {
      CHECK(names.insert(name).second);
      CHECK(&find_option(name) == &row);
    }
  }
  for (const char* own : {"bits", "config", "c", "help", "h", "json", "dry-run", "version", "quiet"})
    CHECK_FALSE(names.contains(own));  // those of the programs
}

TEST_CASE("defaults, preset, config, command line: the later one wins", "[options]") {
  const json preset{{"preset", "faq-4bit"}}, overriding{{"preset", "faq-4bit"}, {"lr", 0.5}};
  CHECK(assemble(json::object(), {}).lr == 0.1);
  CHECK(assemble(preset, {}).lr == 0.0015);
  CHECK(assemble(preset, {}).act_bits == 4);
  CHECK(assemble(overriding, {}).lr == 0.5);
  CHECK(assemble(overriding, {{"lr", "0.25"}}).lr == 0.25);
  CHECK(assemble(overriding, {{"preset", "faq-8bit"}}).weight_bits == 8);
  CHECK(assemble(overriding, {{"preset", "faq-8bit"}}).lr == 1e-4);
  CHECK(assemble({{"lr", 0.5}}, {{"preset", "faq-8bit"}}).lr == 1e-4);
  CHECK(assemble({{"lr", 0.5}}, {{"preset", "faq-8bit"}, {"lr", "0.25"}}).lr == 0.25);
  // The config.json of a run has every option: another preset is another recipe all the same.
  const TrainOptions eight = assemble(to_json(assemble(preset, {})), {{"preset", "faq-8bit"}});
  CHECK(eight.preset == "faq-8bit");
  CHECK(eight.weight_bits == 8);
  CHECK(eight.calibration == Calibration::percentile);
  CHECK(eight.epochs == 1);
  CHECK(assemble({}, {{"lr", "0.5"}, {"preset", "fp32"}}).lr == 0.5);  // in whatever order
  const TrainOptions both = assemble({}, {{"bits", "4"}, {"weight-bits", "3"}});
  CHECK(both.weight_bits == 3);
  CHECK(both.act_bits == 4);
  const TrainOptions from_file = assemble({{"act-bits", 5}, {"bits", 4}, {"weight-bits", 3}}, {});
  CHECK(from_file.act_bits == 5);  // in whatever order
  CHECK(from_file.weight_bits == 3);
  CHECK(assemble({{"bits", 4}}, {}).act_bits == 4);
  CHECK(assemble({{"weight-bits", 3}}, {{"bits", "5"}}).weight_bits == 5);
  CHECK(assemble({{"preset", "faq-8bit"}, {"bits", 6}}, {}).weight_bits == 6);
  CHECK(assemble({}, {{"wd", "0.5"}}).weight_decay == 0.5);
  CHECK(assemble({}, {{"wd", "0.5"}, {"weight-decay", "0.25"}}).weight_decay == 0.25);  // the later one
  check_error(ErrorKind::usage, "config: 'wd' and 'weight-decay' are two names of one option", [] {
    assemble({{"weight-decay", 0.25}, {"wd", 0.5}}, {});
  });
  CHECK(assemble({}, {{"data-dir", "d"}}).data_path == "d");
  CHECK(assemble({}, {{"mean", "0.25,0.5,1"}}).mean == std::vector{0.25, 0.5, 1.0});
  CHECK(to_json(assemble({}, {{"layer-bits", "a=4,4"}, {"layer-bits", "b=3,8"}}))["layer-bits"] ==
        json::array({"a=4,4", "b=3,8"}));
}

TEST_CASE("phases say how long a run is, unless that is said, too", "[options]") {
  CHECK(assemble({}, {{"phase-epochs", "2,6"}}).epochs == 8);
  CHECK(assemble({}, {{"preset", "faq-4bit"}, {"phase-epochs", "2,6"}}).epochs == 8);
  CHECK(assemble({{"epochs", 20}}, {{"phase-epochs", "2,6"}}).epochs == 8);
  CHECK(assemble({{"phase-epochs", {2, 6}}}, {}).epochs == 8);
  CHECK(assemble({{"epochs", 8}, {"phase-epochs", {2, 6}}}, {{"preset", "faq-4bit"}}).epochs == 110);
  CHECK(assemble({{"phase-epochs", {2, 6}}}, {{"preset", "faq-4bit"}}).phase_epochs.empty());
  CHECK(assemble({{"phase-epochs", {2, 6}}}, {{"epochs", "9"}}).epochs ==
        9);  // and check_options() refuses it
  CHECK(assemble({}, {{"phase-epochs", "2,6"}, {"epochs", "9"}}).epochs == 9);
}

TEST_CASE("options survive a config file", "[options]") {
  const std::vector<std::vector<Setting>> rows = {
      {},
      {{"preset", "faq-4bit"}},
      {{"lr", "0.1"},
       {"momentum", "0.30000000000000004"},
       {"weight-decay", "1e-300"},
       {"seed", "2147483647"}},
      {{"layer-bits", "layer?.*=3,5"}, {"layer-bits", "fc=8,8"}, {"mean", "0.1,0.2,0.3"}, {"std", "1,2,3"}},
      {{"data-path", "with space/\"quotes\"/ü"}, {"weights", ""}},
  };
  for (const auto& settings : rows) {
    const TrainOptions options = assemble({}, settings);
    const json j = to_json(options);
    CHECK(to_json(assemble(json::parse(j.dump()), {})) == j);
    CHECK(j.size() == option_table().size());
  }
}

TEST_CASE("values that make no sense are usage errors", "[options]") {
  struct Row {
    std::vector<Setting> settings;
    const char* message;
  };
  const Row rows[] = {
      {{{"lrr", "1"}}, "did you mean 'lr'"},
      {{{"schem", "faq"}}, "did you mean 'scheme'"},
      {{{"preset", "faq-8bits"}}, "did you mean 'faq-8bit'"},
      {{{"epochs", "1.5"}}, "expected an integer"},
      {{{"epochs", ""}}, "expected an integer"},
      {{{"epochs", "3x"}}, "expected an integer"},
      {{{"epochs", "99999999999"}}, "expected an integer"},
      {{{"epochs", "-1"}}, "`epochs` -1"},
      {{{"lr", "inf"}}, "expected a finite number"},
      {{{"lr", "-0.1"}}, "`lr` -0.1"},
      {{{"momentum", "1.5"}}, "`momentum` 1.5"},
      {{{"batch-size", "0"}}, "`batch_size` 0"},
      {{{"grad-accum-steps", "0"}}, "`grad_accum_steps` 0"},
      {{{"label-smoothing", "2"}}, "`label_smoothing` 2"},
      {{{"label-smoothing", "1"}}, "`label_smoothing` 1: expected 0 to less than 1"},
      {{{"model-ema", "1"}}, "`model_ema` 1"},
      {{{"mean", "123.675,116.28,103.53"}}, "`mean` 123.675: expected 0 to 1, as pixels are; divide by 255"},
      {{{"std", "58,57,57"}}, "`std` 58"},
      {{{"print-freq", "0"}}, "`print_freq` 0"},
      {{{"seed", "-1"}}, "`seed` -1"},
      {{{"workers", "-1"}}, "`workers` -1"},
      {{{"mean", "0.5,,0.5"}}, "`mean` ''"},
      {{{"mean", "0.5;0.5"}}, "expected a number"},
      {{{"lr-scheduler", "cosin"}}, "did you mean 'cosine'"},
      {{{"dataset", "cifr"}}, "did you mean 'cifar'"},
      {{{"augment", "imagnet"}}, "did you mean 'imagenet'"},
  };
  for (const Row& row : rows) {
    INFO(row.settings.front().first << " " << row.settings.front().second);
    check_error(ErrorKind::usage, row.message, [&] { check_options(assemble({}, row.settings)); });
  }
  for (const json& config :
       {json(5), json::array(), json{{"lr", nullptr}}, json{{"lr", json::array({1, 2})}},
        json{{"epochs", json::object()}}, json{{"epochs", true}}, json{{"nonsense", 1}}}) {
    INFO(config.dump());
    check_error(ErrorKind::usage, "", [&] { assemble(config, {}); });
  }
}
