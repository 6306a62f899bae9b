// What `faq-train --dry-run` prints.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace faq {

/// The plan of dry_run() (train/dry_run.h) for people: the data, the recipe, the phases with their learning
/// rates, and a row per layer of the network that would be deployed.
std::string plan_text(const nlohmann::json& plan);

}  // namespace faq
