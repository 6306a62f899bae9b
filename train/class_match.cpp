#include "train/class_match.h"

#include <algorithm>
#include <set>
#include <string_view>

#include "core/error.h"
#include "core/json.h"
#include "core/text.h"
#include "nn/load_weights.h"

namespace faq {
namespace {

// "0", "1", …: what classes without names are called.
bool are_positions(const std::vector<std::string>& names) {
  for (std::size_t i = 0; i < names.size(); ++i)
    if (names[i] != std::to_string(i)) return false;
  return true;
}

std::string listed(const std::vector<std::string>& names) {
  std::vector<std::string> parts;
  for (const std::string& name : names) parts.push_back(shortened(name, 40));
  return join_first(parts, ", ", 100);
}

}  // namespace

std::vector<std::string> class_names_in(const std::map<std::string, std::string>& checkpoint) {
  std::vector<std::string> names;
  const auto found = checkpoint.find("classes");
  if (found == checkpoint.end()) return names;
  const auto json = parse_json(found->second, "class names");
  if (!json.is_array()) return names;
  for (const auto& name : json) names.push_back(name.is_string() ? name.get<std::string>() : name.dump());
  return names;
}

ClassMatch match_classes(const std::vector<std::string>& of_weights,
                         const std::vector<std::string>& of_data) {
  if (of_weights.empty() || of_data.empty() || of_weights == of_data) return {};
  std::map<std::string, int> rows;
  for (const std::string& name : of_weights) rows.emplace(name, static_cast<int>(rows.size()));
  ClassMatch match{.kind = ClassMatch::permuted};
  std::vector<bool> is_taken(rows.size());
  for (const std::string& name : of_data) {
    const auto row = rows.find(name);
    if (row == rows.end() || is_taken[static_cast<std::size_t>(row->second)]) break;
    is_taken[static_cast<std::size_t>(row->second)] = true;
    match.order.push_back(row->second);
  }
  if (match.order.size() == of_data.size() && rows.size() == of_data.size() &&
      rows.size() == of_weights.size())
    return match;
  if (of_weights.size() == of_data.size() && (are_positions(of_weights) || are_positions(of_data))) return {};
  return {.kind = ClassMatch::others};
}

bool are_among(const std::vector<std::string>& classes, const std::vector<std::string>& all) {
  const std::set<std::string_view> names(all.begin(), all.end());
  return std::ranges::all_of(classes, [&](const std::string& name) { return names.contains(name); });
}

NamedTensors for_classes(NamedTensors weights, const ModelInfo& info, const std::vector<std::string>& classes,
                         const std::string& source, std::vector<std::string>& notes) {
  const std::vector<std::string> known = class_names_in(weights.metadata);
  const ClassMatch match = match_classes(known, classes);
  switch (match.kind) {
    case ClassMatch::same:
      if (!known.empty() && !classes.empty() && known != classes)
        notes.push_back(concat("warning: classes: ", source, " has ", listed(known), ", the data have ",
                               listed(classes), ": numbers and names, taken to be in the same order"));
      return weights;
    case ClassMatch::permuted: {
      std::size_t moved = 0;
      for (std::size_t i = 0; i < match.order.size(); ++i) moved += match.order[i] != static_cast<int>(i);
      notes.push_back(concat("classes: ", source,
                             " has those of the data in another order; the classifier's rows ",
                             "are put in the data's (", moved, " of ", match.order.size(), " moved)"));
      return with_classes_reordered(weights, info, match.order);
    }
    case ClassMatch::others:
      notes.push_back(concat("warning: classes: ", source, " has others (", listed(known),
                             ") than the data (", listed(classes), "): the classifier is not taken from it"));
      return without_classifier(weights, info);
  }
  return weights;
}

}  // namespace faq
