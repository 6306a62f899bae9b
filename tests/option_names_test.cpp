#include "train/option_names.h"

#include "tests/testing.h"
#include "train/option_table.h"

using namespace faq;
using namespace faq::testing;

TEST_CASE("names of other tools, and names misspelt, lead to ours", "[options]") {
  std::vector<std::string> names{"bits", "config",  "dry-run", "quiet",
                                 "json", "version", "help",    "list-models"};
  for (const OptionRow& row : option_table()) names.insert(names.end(), row.names.begin(), row.names.end());
  struct Row {
    const char *unknown, *meant;
  };
  const Row rows[] = {
      {"learning-rate", "lr"},
      {"learning_rate", "lr"},
      {"base-lr", "lr"},
      {"blr", "lr"},
      {"lr_scheduler_type", "lr-scheduler"},
      {"sched", "lr-scheduler"},
      {"batch_size", "batch-size"},
      {"batchsize", "batch-size"},
      {"bs", "batch-size"},
      {"per_device_train_batch_size", "batch-size"},
      {"num-workers", "workers"},
      {"num_workers", "workers"},
      {"worker", "workers"},
      {"model-name", "model"},
      {"model_name_or_path", "model"},
      {"arch", "model"},
      {"num-epochs", "epochs"},
      {"num_train_epochs", "epochs"},
      {"epoch", "epochs"},
      {"epocs", "epochs"},
      {"wdecay", "weight-decay"},
      {"weight_decay", "weight-decay"},
      {"data", "data-path"},
      {"data_path", "data-path"},
      {"pretrained", "weights"},
      {"initial-checkpoint", "weights"},
      {"wieghts", "weights"},
      {"output_dir", "output-dir"},
      {"outdir", "output-dir"},
      {"OUTPUT-DIR", "output-dir"},
      {"resume_from_checkpoint", "resume"},
      {"img-size", "train-crop-size"},
      {"clip-grad", "clip-grad-norm"},
      {"gradient-accumulation-steps", "grad-accum-steps"},
      {"label_smoothing", "label-smoothing"},
      {"log-interval", "print-freq"},
      {"teacher-path", "teacher"},
      {"w-bits", "weight-bits"},
      {"verison", "version"},
      {"dryrun", "dry-run"},
      // Nothing of the kind: better no suggestion than a wild one.
      {"gpus", ""},
      {"mixup-alpha", ""},
      {"use-flash-attention", ""},
      {"zzzzzzzzzzzz", ""},
      {"", ""},
  };
  for (const Row& row : rows) {
    INFO(row.unknown);
    CHECK(suggested_option(row.unknown, names) == row.meant);
  }
  CHECK(suggested_option("learning-rate", {"epochs", "ternary-scale"})
            .empty());  // no program has what is meant
}
