#include "train/dry_run.h"

#include "core/text.h"
#include "train/option_table.h"
#include "train/quantized_training.h"
#include "train/run.h"
#include "train/run_listener.h"

namespace faq {

nlohmann::json dry_run(const TrainOptions& options) {
  const auto made = make_method(options);
  Method& method = *made;
  check(options.resume.empty(), ErrorKind::usage, "`resume`: a plan is that of a whole run");
  Run run(options, method);
  std::vector<std::string> notes = run.learner.begin();
  std::erase(notes, "weights: random");  // `config` says it
  const std::vector<std::string> of_phase =
      split(run.learner.begin_phase(method.phases() - 1, run.training_batches()), '\n');
  notes.insert(notes.end(), of_phase.begin() + 1, of_phase.end());
  for (const std::string& text : run.warnings()) notes.push_back(warning_prefix + text);
  const ModelCost cost = model_cost(
      run.options.model, {.num_classes = run.options.num_classes, .in_channels = run.options.in_channels},
      run.options.val_crop_size);
  nlohmann::json phases = nlohmann::json::array();
  for (const Phase& phase : run.phases) {
    const double last_step = static_cast<double>(phase.end) - 1.0 / static_cast<double>(run.steps_per_epoch);
    phases.push_back({{"begin", phase.begin},
                      {"end", phase.end},
                      {"network", method.describe(phase.index)},
                      {"lr_first", learning_rate(run.schedule, phase, static_cast<double>(phase.begin))},
                      {"lr_last", learning_rate(run.schedule, phase, last_step)}});
  }
  return {{"config", to_json(run.options)},
          {"phases", phases},
          {"train_images", run.data.train->size()},
          {"val_images", run.data.val->size()},
          {"classes", run.data.val->class_names().size()},
          {"steps_per_epoch", run.steps_per_epoch},
          {"parameters", cost.parameters},
          {"macs", cost.macs},
          {"notes", notes},
          {"layers", method.layers(run.learner.model(), run.deployment())}};
}

}  // namespace faq
