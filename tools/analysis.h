// FAQ's analyses as faq-eval --analyze prints them: a table, the same as JSON, a figure. What they measure is
// train/'s: weight_analyses.h, gradient_noise.h, variants.h.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tools/chart.h"
#include "train/gradient_noise.h"
#include "train/variants.h"
#include "train/weight_analyses.h"

namespace faq {

struct Analysis {
  nlohmann::json result;
  std::string table;
  Chart chart;
};

Analysis show(const std::vector<WeightSimilarity>& rows, const std::string& weights,
              const std::string& baseline);
Analysis show(const std::vector<GradientNoiseRow>& rows, const GradientNoiseStudy& study);
Analysis show(const WeightScaleScores& scores, const std::string& weights);
Analysis show_sensitivity(const std::vector<VariantResult>& rows);
Analysis show_widths(const std::vector<VariantResult>& rows);

/// Writes NAME.json and NAME.svg into the folder.
void save(const Analysis& analysis, const std::string& folder, const std::string& name);

}  // namespace faq
