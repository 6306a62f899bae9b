#include "tools/option_effects.h"

#include <algorithm>

#include "core/error.h"

namespace faq {
namespace {

struct Rule {
  std::vector<std::string> options;
  bool (*without_effect)(const TrainOptions&);
  const char* why;
};

const std::vector<Rule>& rules() {
  using O = TrainOptions;
  static const std::vector<Rule> rows{
      {{"bits", "weight-bits", "act-bits", "first-last-bits", "residual-bits", "layer-bits", "calibration",
        "calibration-percentile", "calibration-batches", "weight-scale", "weight-scales",
        "hold-weight-scales", "cluster-size", "ternary-scale", "batch-norm-batches"},
       [](const O& o) { return o.scheme == Scheme::none; },
       "in floating point: it wants a --scheme (faq, dfp, dorefa or lsq) or a preset that has one"},
      {{"bits", "weight-bits", "act-bits"},
       [](const O& o) { return !o.bits_schedule.empty(); },
       "with --bits-schedule, which names the widths"},
      {{"cluster-size", "ternary-scale"},
       [](const O& o) { return o.scheme != Scheme::dfp; },
       "without --scheme dfp"},
      {{"weight-scales"}, [](const O& o) { return o.scheme != Scheme::lsq; }, "without --scheme lsq"},
      {{"hold-weight-scales"},
       [](const O& o) { return o.scheme == Scheme::lsq; },
       "with --scheme lsq, which learns scales until the end"},
      {{"stochastic-tail"},
       [](const O& o) { return o.stochastic_precision >= 1; },
       "without --stochastic-precision"},
      {{"float-dtype"},
       [](const O& o) {
         return o.scheme != Scheme::none && !o.weights_first && o.stochastic_precision >= 1 &&
                o.distill == Distill::none;
       },
       "with a --scheme alone, which leaves no layer in floating point"},
      {{"distill-weight"}, [](const O& o) { return o.distill == Distill::none; }, "with --distill none"},
      {{"grad-accum-steps"}, [](const O& o) { return o.shards > 0; }, "with --shards"},
      {{"lr-gamma"},
       [](const O& o) { return o.lr_scheduler == Schedule::constant || o.lr_scheduler == Schedule::cosine; },
       "without --lr-scheduler exponential or step"},
      {{"lr-step-size"},
       [](const O& o) { return o.lr_scheduler != Schedule::step; },
       "without --lr-scheduler step"},
  };
  return rows;
}

}  // namespace

void refuse_without_effect(const std::vector<Setting>& given, const TrainOptions& options) {
  for (const auto& [name, value] : given) {
    for (const Rule& rule : rules()) {
      const bool concerned = std::ranges::find(rule.options, name) != rule.options.end();
      check(!concerned || !rule.without_effect(options), ErrorKind::usage, "--", name, " ", value,
            " has no effect ", rule.why);
    }
  }
}

}  // namespace faq
