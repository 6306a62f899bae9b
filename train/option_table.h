// The fields of TrainOptions by name, as text and as JSON: what config files, the record of a run and the
// command line share.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "train/options.h"

namespace faq {

/// A setting as text: (name, value). A list option given several times accumulates (layer-bits) or is
/// comma-separated (mean, std, phase-epochs).
using Setting = std::pair<std::string, std::string>;

/// How a field is read and written.
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
/// The row of that name; throws usage, naming the nearest, when there is none.
const OptionRow& find_option(const std::string& name);

/// Throws usage when the text is not a value of the option's type.
void apply(TrainOptions& options, const Setting& setting);
/// Defaults, then the config file's preset (unless the settings have one), the config file, the settings'
/// preset, the settings: what comes later wins.
/// Epochs of phases that are given without those of the run are added up.
/// `source`: what to call the config in messages.
TrainOptions assemble(const nlohmann::json& config, const std::vector<Setting>& settings,
                      const std::string& source = "config");
/// Every option under its canonical name; assemble(to_json(o), {}) gives o again.
nlohmann::json to_json(const TrainOptions& options);

/// As config files have it.
std::string to_text(Scheme scheme);
std::string to_text(Schedule schedule);
std::string to_text(Engine engine);

}  // namespace faq
