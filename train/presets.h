// Named recipes, as in the papers.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "train/options.h"

namespace faq {

/// A preset sets some fields of a recipe and leaves the others.
struct Preset {
  std::string name;
  std::function<void(Recipe&)> apply;
};
const std::vector<Preset>& presets();
/// Returns the preset of that name. Throws usage, with the nearest name, for an unknown one.
const Preset& preset(const std::string& name);

/// Returns the default recipe with the preset applied.
Recipe recipe(const std::string& preset_name);

}  // namespace faq
