#include "train/run_length.h"

#include <algorithm>

namespace faq {
namespace {

struct Rule {
  bool (*depends_on_length)(const TrainOptions&);
  const char* why;
};

// What a run does at a share of a phase, or by its end.
constexpr Rule rules[] = {
    {[](const TrainOptions& o) { return o.epochs == 0; }, "it has no epochs, and its network is its result"},
    {[](const TrainOptions& o) { return o.lr_scheduler == Schedule::cosine; },
     "`lr_scheduler` cosine falls to 0 at the end of a run"},
    {[](const TrainOptions& o) {
       const bool holds = o.scheme != Scheme::none && o.scheme != Scheme::lsq;  // lsq learns them
       return holds && o.hold_weight_scales > 0 && o.hold_weight_scales < 1;
     },
     "`hold_weight_scales` holds scales for the last share of a run (0 and 1 depend on no length)"},
    {[](const TrainOptions& o) { return o.scheme != Scheme::none && o.stochastic_precision < 1; },
     "`stochastic_precision` rises until the end of a run"},
    {[](const TrainOptions& o) { return o.freeze_batch_norm_stats > 0 && o.freeze_batch_norm_stats < 1; },
     "`freeze_batch_norm_stats` freezes them for the last share of a run"},
};

}  // namespace

std::string why_of_that_length(const TrainOptions& now, const TrainOptions& before, int phases) {
  for (const Rule& rule : rules)
    if (rule.depends_on_length(before)) return rule.why;
  if (phases <= 1) return {};
  // The last phase may be longer. The others must have been what they are now.
  const auto& is = now.phase_epochs;
  const auto& was = before.phase_epochs;
  const bool same =
      is.size() == was.size() && !is.empty() && std::equal(is.begin(), is.end() - 1, was.begin());
  return same ? ""
              : "its phases would have had other epochs (`phase_epochs` can name them; the last may grow)";
}

bool holds_batch_norm_stats(const Recipe& recipe, double phase_done) {
  constexpr double rounding = 1e-9;  // of a number of steps divided by another one
  return recipe.freeze_batch_norm_stats > 0 && phase_done >= 1 - recipe.freeze_batch_norm_stats - rounding;
}

}  // namespace faq
