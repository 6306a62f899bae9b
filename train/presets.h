// Recipes with names, as the papers have them.
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
/// Throws usage, naming the nearest, for an unknown one.
const Preset& preset(const std::string& name);

/// The preset on top of the defaults.
Recipe recipe(const std::string& preset_name);

}  // namespace faq
