#include <algorithm>
#include <limits>
#include <map>
#include <numeric>

#include "core/json.h"
#include "core/text.h"
#include "train/option_names.h"
#include "train/option_table.h"
#include "train/presets.h"

namespace faq {
namespace {

// One name that sets several options, in config files as on the command line; what is more specific wins.
const std::vector<std::pair<std::string, std::vector<std::string>>> shorthands{
    {"bits", {"weight-bits", "act-bits"}}};

const std::vector<std::string>* options_of_shorthand(const std::string& name) {
  for (const auto& [shorthand, options] : shorthands) {
    if (shorthand == name) return &options;
  }
  return nullptr;
}

// Texts are names of files at most, as on the command line.
std::string text_of(const std::string& name, const nlohmann::json& value) {
  constexpr std::size_t most = 4096;
  std::string text = value.is_string() ? value.get<std::string>() : json_text(value);
  check(text.size() <= most, ErrorKind::usage, "'", name, "' has a value of ", text.size(),
        " bytes: expected at most ", most);
  check(text.find('\0') == text.npos, ErrorKind::usage, "'", name, "' has a value with a zero byte");
  return text;
}

bool told(const std::vector<Setting>& settings, const std::string& name) {
  return std::ranges::any_of(settings, [&](const Setting& setting) { return setting.first == name; });
}

int sum(const std::vector<int>& epochs) {
  const auto all = std::accumulate(epochs.begin(), epochs.end(), std::int64_t{0});
  return static_cast<int>(std::clamp<std::int64_t>(all, 0, std::numeric_limits<int>::max()));
}

// A config file's entries as settings; lists become one setting per element (text) or a comma-separated one
// (numbers).
std::vector<Setting> settings_of(const nlohmann::json& config) {
  std::vector<Setting> settings;
  std::map<const OptionRow*, std::string> names;  // an object has no order, so none of two names wins
  for (const auto& [name, value] : config.items()) {
    const auto* several = options_of_shorthand(name);
    const OptionRow& row = find_option(several ? several->front() : name);
    if (!several) {
      const auto [other, is_first] = names.emplace(&row, name);
      check(is_first, ErrorKind::usage, "'", other->second, "' and '", name,
            "' are two names of one option: expected one of them");
    }
    const OptionField::Kind kind = row.field.kind;
    check(!value.is_object() && !value.is_null() && (!value.is_array() || kind != OptionField::Kind::single),
          ErrorKind::usage, "'", name, "' has a value of the wrong kind: ", json_text(value));
    if (kind == OptionField::Kind::accumulate) {
      for (const auto& element : value) settings.emplace_back(name, text_of(name, element));
    } else if (value.is_array()) {
      std::vector<std::string> parts;
      for (const auto& element : value) parts.push_back(text_of(name, element));
      if (!parts.empty()) settings.emplace_back(name, join(parts, ","));
    } else {
      settings.emplace(several ? settings.begin() : settings.end(), name, text_of(name, value));
    }
  }
  return settings;
}

}  // namespace

const OptionRow& find_option(const std::string& name) {
  std::vector<std::string> names;
  for (const auto& [shorthand, options] : shorthands) names.push_back(shorthand);
  for (const OptionRow& row : option_table()) {
    for (const std::string& candidate : row.names) {
      if (candidate == name) return row;
      names.push_back(candidate);
    }
  }
  const std::string meant = suggested_option(name, names);
  fail(ErrorKind::usage, "unknown option '", name, "'",
       meant.empty() ? "" : concat("; did you mean '", meant, "'?"));
}

void apply(TrainOptions& options, const Setting& setting) {
  if (const auto* several = options_of_shorthand(setting.first)) {
    for (const std::string& name : *several) apply(options, {name, setting.second});
    return;
  }
  const OptionRow& row = find_option(setting.first);
  row.field.set(options, setting);
}

TrainOptions assemble(const nlohmann::json& config, const std::vector<Setting>& settings,
                      const std::string& source) {
  check(config.is_object() || config.is_null(), ErrorKind::usage, source, ": expected a JSON object");
  TrainOptions options;
  const auto apply_preset = [&](const std::vector<Setting>& list) {
    for (const Setting& setting : list)
      if (setting.first == "preset" && !setting.second.empty()) preset(setting.second).apply(options);
  };
  const auto apply_all = [&](const std::vector<Setting>& list) {
    for (const Setting& setting : list) apply(options, setting);
  };
  std::vector<Setting> from_config;
  try {
    from_config = settings_of(config);
    // A preset of the settings is one of them: it wins over the whole config file, and replaces its preset.
    if (!told(settings, "preset")) apply_preset(from_config);
    apply_all(from_config);
  } catch (const Error& error) {
    fail(error.kind(), source, ": ", error.what());
  }
  if (told(settings, "preset")) options.phase_epochs.clear();  // it has epochs of its own
  apply_preset(settings);
  apply_all(settings);
  // The phases say how long the run is, unless that is said as specifically.
  const bool phases_told = told(settings, "phase-epochs");
  const bool epochs_told = told(settings, "epochs") || (!phases_told && told(from_config, "epochs"));
  if (!options.phase_epochs.empty() && !epochs_told) options.epochs = sum(options.phase_epochs);
  return options;
}

nlohmann::json to_json(const TrainOptions& options) {
  nlohmann::json json = nlohmann::json::object();
  for (const OptionRow& row : option_table()) json[row.names.front()] = row.field.get(options);
  return json;
}

}  // namespace faq
