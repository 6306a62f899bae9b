// What faq-eval answers, as JSON and as text made of it.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "train/compare.h"
#include "train/confusion.h"
#include "train/open_network.h"
#include "train/predict.h"
#include "train/scores.h"

namespace faq {

/// What classes are called; those without a name by their number.
struct ClassNames {
  std::vector<std::string> names = {};
  std::string of(std::size_t index) const {
    return index < names.size() ? names[index] : std::to_string(index);
  }
};
/// From a file of lines NAME in class order, or FOLDER<tab>NAME. `folders`: those of the classes, in order.
/// Throws missing_input, and bad_data when there are not as many lines as classes.
ClassNames read_class_names(const std::string& file, const std::vector<std::string>& folders, int classes);
/// From the same file: what the folders of all classes are called, in class order. Throws as
/// read_class_names().
std::vector<std::string> read_class_folders(const std::string& file, int classes);

nlohmann::json evaluation_json(const Network& network, const Evaluation& evaluation, std::int64_t skipped,
                               std::int64_t faulty);
/// One row per class of `names`.
nlohmann::json per_class_json(const Scores& scores, const ClassNames& names, std::size_t classes);
/// "classes", their names, and "cells" that are not 0: [label, predicted, images].
nlohmann::json confusion_json(const Confusion& confusion, const ClassNames& names, std::size_t classes);
std::string evaluation_text(const nlohmann::json& evaluation);

nlohmann::json prediction_json(const std::string& file, const Prediction& prediction,
                               const ClassNames& names);
std::string predictions_text(const nlohmann::json& result);

nlohmann::json export_json(const Network& network, const IntegerNetwork& exported, const std::string& file);
std::string export_text(const nlohmann::json& result);

nlohmann::json comparison_json(const Network& a, const Network& b, const Comparison& comparison);
std::string comparison_text(const nlohmann::json& comparison);

}  // namespace faq
