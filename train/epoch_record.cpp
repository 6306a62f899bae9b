#include "train/epoch_record.h"

#include <algorithm>

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
