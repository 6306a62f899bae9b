// Training with quantization from C++: fine-tunes a pretrained ResNet-20 in 4-bit integers, with a loop of
// its own, and saves the integer network.
//
//   fine_tune WEIGHTS DATA OUTPUT [EPOCHS]
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "core/error.h"
#include "data/loader.h"
#include "nn/load_weights.h"
#include "quant/compile.h"
#include "quant/equalize.h"
#include "quant/quantize.h"
#include "train/evaluate.h"
#include "train/progress_display.h"
#include "train/run_record.h"
#include "train/schedule.h"
#include "train/setup.h"
#include "train/sgd.h"

using namespace faq;

namespace {

void fine_tune(const char* weights_file, const char* data, const char* output, int epochs) {
  // A pretrained network, with the classes and channels its weights were made for, and the pixels' mean and
  // deviation if they are from faq-train (else ImageNet's, or what you set here).
  const NamedTensors weights = read_safetensors(weights_file);
  const ModelInfo& resnet20 = model_info("resnet20");
  const int channels = channels_in(weights, resnet20);
  ModelOptions as_trained{.num_classes = classes_in(weights, resnet20), .in_channels = channels};
  if (is_checkpoint(weights.metadata)) {
    const TrainOptions run = options_of_checkpoint(weights.metadata, weights_file);
    as_trained.mean.assign(run.mean.begin(), run.mean.end());
    as_trained.std.assign(run.std.begin(), run.std.end());
  }
  const auto model = make_model(resnet20.name, as_trained);
  load_weights(*model, weights, {.source = weights_file});

  const auto training_set = cached(open_dataset({.path = data, .channels = channels}, Split::train));
  const auto validation_set = cached(open_dataset({.path = data, .channels = channels}, Split::val));
  const int side = validation_set->image(0).height;
  Loader training_images(
      *training_set,
      {.batch_size = 256, .training = true, .transform = {Augmentation::cifar, side, /*resize=*/0}});
  Loader validation_images(*validation_set, {.transform = {Augmentation::none, side, /*resize=*/0}});

  // Five batches tell the ranges of the activations; from then on the network computes in 4-bit integers.
  const NumberFormat bits{
      .scheme = Scheme::faq, .weight_bits = 4, .act_bits = 4, .calibration = Calibration::mse};
  const CalibrationResult seen =
      calibrate(*model, [&, left = bits.calibration_batches]() mutable -> std::optional<Tensor> {
        auto batch = left-- > 0 ? training_images.next() : std::nullopt;
        return batch ? std::optional(batch->images) : std::nullopt;
      });
  quantize(*model, bits, &seen);
  equalize_channels(*model);

  ProgressDisplay display(/*quiet=*/false);
  Sgd sgd(parameters(*model), {.weight_decay = 5e-4});
  for (int epoch = 0; epoch < epochs; ++epoch) {
    training_images.start_epoch(epoch);
    const auto steps = static_cast<double>(training_images.batches_per_epoch());
    for (int step = 0; const auto batch = training_images.next(); ++step) {
      BatchStatistics statistics;
      const Pass pass = training_pass({.epoch = epoch, .samples = batch->samples}, &statistics);
      backward(training_loss(model->forward_training(pass, Var(batch->images)), batch->labels));
      update_running_statistics(statistics);
      const double norm = sgd.step(cosine_lr(/*base=*/0.02, epochs, epoch + step / steps), /*grad_scale=*/1);
      check(std::isfinite(norm), ErrorKind::diverged, "epoch ", epoch + 1, ", step ", step + 1,
            ": gradient norm ", norm);
    }
    // What is evaluated is what is deployed.
    const IntegerNetwork network = compile(
        *model,
        {.height = side, .width = side, .channels = channels, .class_names = validation_set->class_names()});
    Scores scores;
    const Evaluation result = evaluate([&](const Tensor& images) { return network.forward(images); },
                                       validation_images, scores, display);
    std::printf("epoch %d: top-1 %.2f  loss %.4f in integers\n", epoch + 1, result.top1, result.loss);
    network.save(output);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const int epochs = argc > 4 ? std::atoi(argv[4]) : 4;
  if (argc < 4 || argc > 5 || epochs < 1) {
    std::fprintf(stderr, "usage: fine_tune WEIGHTS DATA OUTPUT [EPOCHS]\n");
    return 64;
  }
  try {
    fine_tune(argv[1], argv[2], argv[3], epochs);
    return 0;
  } catch (const Error& error) {
    std::fprintf(stderr, "fine_tune: %s\n", error.what());
    return error.exit_code();
  }
}
