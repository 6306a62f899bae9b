// Errors of the library name fields; the programs name options.
#include "tools/option_text.h"

#include <algorithm>

#include "tests/testing.h"
#include "train/option_table.h"

using namespace faq;
using cli::with_options;

TEST_CASE("fields that an error names become options", "[options]") {
  const std::pair<const char*, const char*> rows[] = {
      {"`lr_gamma` 2: expected 0 to 1", "--lr-gamma 2: expected 0 to 1"},
      {"`batch-size` 'x': expected an integer", "--batch-size 'x': expected an integer"},
      {"`grad_format` bf16 with `scheme` none", "--grad-dtype bf16 with --scheme none"},
      {"`weights_first` wants a `scheme`", "--stages wants a --scheme"},
      {"`average`: none", "--use-ema: none"},
      {"file `odd: `lr`", "file `odd: --lr"},
      {"`no such field`", "`no such field`"},
      {"`", "`"},
      {"``", "``"},
      {"", ""},
      {"nothing quoted", "nothing quoted"},
  };
  for (const auto& [text, expected] : rows) CHECK(with_options(text) == expected);
}

TEST_CASE("every option is found by its field and by all its names", "[options]") {
  std::vector<std::string> members;
  for (const OptionRow& row : option_table()) {
    std::string member = row.names.front();
    std::ranges::replace(member, '-', '_');
    if (!row.member.empty()) member = row.member;
    CHECK(with_options("`" + member + "`") == "--" + row.names.front());
    for (const std::string& name : row.names) CHECK(with_options("`" + name + "`") == "--" + name);
    members.push_back(member);
  }
  std::ranges::sort(members);
  CHECK(std::ranges::adjacent_find(members) == members.end());
}

TEST_CASE("options that had another name before have it still", "[options]") {
  TrainOptions o = assemble({{"hold-weight-steps", 0.5}, {"weight-step", "max"}}, {});
  CHECK(o.hold_weight_scales == 0.5);
  CHECK(o.weight_scale == WeightScale::max);
  CHECK(to_json(o)["hold-weight-scales"] == 0.5);
  CHECK_FALSE(to_json(o).contains("hold-weight-steps"));
}
