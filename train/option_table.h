// The fields of TrainOptions by name, as text and as JSON. Config files, the files of a run and the command
// line all use this table.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "train/options.h"

namespace faq {

/// A setting as text: (name, value). An option with several values is repeated (layer-bits) or has commas
/// between them (mean, std, phase-epochs).
using Setting = std::pair<std::string, std::string>;

/// How to read and write a field.
struct OptionField {
  enum class Kind {
    single,
    list,       ///< text: values between commas; JSON: an array
    accumulate  ///< text: a value for each setting; JSON: an array
  };
  Kind kind = Kind::single;
  /// Throws usage when the text is not a value of the field's type.
  std::function<void(TrainOptions&, const Setting&)> set;
  std::function<nlohmann::json(const TrainOptions&)> get;
  std::vector<std::string> choices = {};  ///< the values there are, where they are few; empty: many
};

struct OptionRow {
  std::vector<std::string> names;  ///< the first is the canonical one, also in config files
  OptionField field;
  std::string alone = {};  ///< the value of the option given without one; empty: it wants one
  /// The field of TrainOptions; empty: the canonical name with underscores. Error texts name fields:
  /// `weight_bits`.
  std::string member = {};
};
const std::vector<OptionRow>& option_table();
/// Returns the row with that name. Throws usage with the nearest name if there is none.
const OptionRow& find_option(const std::string& name);

/// Sets the field of a setting. Throws usage when the text is not a value of the field's type.
void apply(TrainOptions& options, const Setting& setting);
/// Combines, with later ones winning: the defaults, the preset of the config (unless the settings have one),
/// the config, the preset of the settings, the settings. If only the epochs of the phases are given, the
/// epochs of the run are their sum. `source`: the name of the config in messages.
TrainOptions assemble(const nlohmann::json& config, const std::vector<Setting>& settings,
                      const std::string& source = "config");
/// Returns every field under its canonical name. assemble(to_json(o), {}) is equal to o.
nlohmann::json to_json(const TrainOptions& options);

/// The text of a value in config files.
std::string to_text(Scheme scheme);
std::string to_text(Schedule schedule);
std::string to_text(Engine engine);

}  // namespace faq
