#include "train/epoch_record.h"

#include <algorithm>

#include "core/json.h"
#include "core/text.h"

namespace faq {

nlohmann::json epoch_row(const EpochDone& done) {
  const Evaluation& validation = done.validation;
  nlohmann::json row{{"epoch", done.epoch},
                     {"val_loss", validation.loss},
                     {"top1", validation.top1},
                     {"top5", validation.top5},
                     {"val_images", validation.images},
                     {"val_images_per_s", validation.images_per_s},
                     {"skipped", done.skipped},
                     {"recoverable_faults", done.faulty}};
  if (done.training) {
    row["train_loss"] = done.training->loss;
    if (done.training->divergence) row["train_divergence"] = *done.training->divergence;
    row["train_top1"] = done.training->top1;
    row["lr"] = done.training->lr;
    if (done.training->images_per_s) row["images_per_s"] = *done.training->images_per_s;
  }
  if (done.not_averaged) {
    row["raw_top1"] = done.not_averaged->top1;
    row["raw_val_loss"] = done.not_averaged->loss;
  }
  return row;
}

void check_history(const nlohmann::json& history, const std::string& source) {
  check(history.is_array(), ErrorKind::bad_data, source, ": not a list of epochs");
  std::int64_t before = -1;
  for (const auto& row : history) {
    const auto is_number = [&](const char* key) { return row.contains(key) && row[key].is_number(); };
    const bool is_row =
        row.is_object() && is_number("epoch") && is_number("val_loss") && is_number("top1") &&
        is_number("top5") &&
        std::ranges::all_of(row, [](const auto& value) { return value.is_number() || value.is_null(); });
    check(is_row, ErrorKind::bad_data, source,
          ": not the figures of an epoch: ", shortened(json_text(row), 120));
    before = parse_integer(row["epoch"], source + ": epoch", before + 1, std::int64_t{1} << 53);
  }
}

Evaluation validation_in(const nlohmann::json& history, std::int64_t epoch) {
  for (const auto& row : history) {
    if (row.at("epoch") != epoch) continue;
    return {.images = row.value("val_images", std::int64_t{0}),
            .top1 = row.at("top1"),
            .top5 = row.at("top5"),
            .loss = row.at("val_loss"),
            .images_per_s = row.value("val_images_per_s", 0.0)};
  }
  return {};
}

bool may_be_of_one_run(const nlohmann::json& history, const nlohmann::json& other) {
  const auto without_speeds = [](nlohmann::json row) {
    for (const char* speed : {"val_images_per_s", "images_per_s"}) row.erase(speed);
    return row;
  };
  for (std::size_t i = 0; i < std::min(history.size(), other.size()); ++i)
    if (without_speeds(history[i]) != without_speeds(other[i])) return false;
  return true;
}

}  // namespace faq
