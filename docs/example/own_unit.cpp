// A unit and a network of your own, trained by a loop of your own and deployed: what the library's models
// can, yours can. The unit keeps every second pixel; its form in integers is an op that the file format
// knows.
//
//   own_unit OUTPUT
#include <faq/faq.h>
#include <cstdio>

using namespace faq;

namespace {

class EverySecondPixel final : public Unit {
 public:
  explicit EverySecondPixel(int channels) : channels_(channels) {}
  Var compute(const Pass&, Inputs inputs) override {
    return subsample_and_pad(inputs[0], /*stride=*/2, channels_);
  }
  std::shared_ptr<Adapter> quantized_form(const QuantizedForms& forms) override {
    auto op = std::make_shared<ShortcutOp>();
    op->name = forms.name();
    op->stride = 2;
    op->out_channels = channels_;
    return std::make_shared<MovingUnit>(*this, std::move(op));
  }

 private:
  int channels_;
};

class SmallNet final : public Model {
 public:
  void visit(Visitor& v) override {
    v.child("input", input_);
    v.child("conv1", "bn1", conv1_);
    v.child("every_second", every_second_);
    v.child("conv2", "bn2", conv2_);
    v.child("pool", pool_);
    v.child("fc", fc_);
  }
  Var forward(const Pass& pass, const Var& images) override {
    const Var x = every_second_(pass, conv1_(pass, input_(pass, images)));
    return fc_(pass, pool_(pass, conv2_(pass, x)));
  }

 private:
  Input input_{{0.5f}, {0.25f}};
  ConvNormAct conv1_{1, 8, 3, {.padding = 1}};
  EverySecondPixel every_second_{8};
  ConvNormAct conv2_{8, 16, 3, {.padding = 1}};
  GlobalAvgPool pool_;
  Linear fc_{16, 2};
};

// Images that are bright above or below.
Batch images_of(std::int64_t first, int count) {
  Batch batch{.images = Tensor::zeros({count, 8, 8, 1}, DType::u8), .labels = {}, .samples = {}};
  auto pixels = batch.images.mutable_span<std::uint8_t>();
  for (int n = 0; n < count; ++n) {
    const int label = n % 2;
    for (int i = 0; i < 32; ++i)
      pixels[static_cast<std::size_t>(n * 64 + label * 32 + i)] =
          static_cast<std::uint8_t>(128 + (first + n + i) % 100);
    batch.labels.push_back(label);
    batch.samples.push_back(first + n);
  }
  return batch;
}

int train_and_deploy(const char* output) {
  SmallNet model;
  initialize(model, /*seed=*/1);
  const CalibrationResult seen = calibrate(model, [left = 1]() mutable -> std::optional<Tensor> {
    return left-- > 0 ? std::optional(images_of(0, 16).images) : std::nullopt;
  });
  // With 8-bit gradients a step has the same bits on every CPU.
  quantize(model, {.scheme = Scheme::faq, .weight_bits = 4, .act_bits = 4, .grad_format = GradFormat::s8},
           &seen);

  Sgd sgd(parameters(model), {.momentum = 0.9});
  for (int step = 0; step < 40; ++step) {
    const Batch batch = images_of(16 * step, 16);
    BatchStatistics statistics;
    const Pass pass = training_pass({.samples = batch.samples}, &statistics);
    backward(training_loss(model.forward_training(pass, Var(batch.images)), batch.labels));
    sgd.step(cosine_lr(0.05, 40, step), /*grad_scale=*/1);
    update_running_statistics(statistics);
  }

  const IntegerNetwork network =
      compile(model, {.height = 8, .width = 8, .channels = 1, .class_names = {"above", "below"}});
  network.save(output);
  const Batch test = images_of(1000, 20);
  Scores scores;
  scores.add(IntegerNetwork::load(output).forward(test.images), test.labels);
  std::printf("deployed: top-1 %.2f\n", scores.result().top1);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: own_unit OUTPUT\n");
    return 64;
  }
  try {
    return train_and_deploy(argv[1]);
  } catch (const Error& error) {
    std::fprintf(stderr, "own_unit: %s\n", error.what());
    return error.exit_code();
  }
}
