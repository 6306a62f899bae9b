// Every network of the zoo in integers.
#include "tests/integer_reference.h"

using namespace faq;
using namespace faq::testing;

namespace {

// Small images, so that it takes seconds: what matters is in the ops and how they are put together.
int small_size(const ModelInfo& info) {
  return info.family == "inception" ? 107 : info.family == "alexnet" ? 67 : info.family == "vgg" ? 32 : 40;
}

}  // namespace

TEST_CASE("one network of each family is what the formulas say", "[zoo][integer_network][isa]") {
  const OneThread one_thread;
  for (const char* name : {"vgg11_bn", "alexnet", "densenet121", "inception_v3"}) {
    const Case c{.model = name, .size = small_size(model_info(name)), .weight_bits = 4, .act_bits = 4};
    INFO(c);
    check_case(c);
  }
}

TEST_CASE("every network of the zoo is deployed bit for bit, and trains", "[zoo][integer_network]") {
  for (const ModelInfo& info : list_models()) {
    // The auxiliary head wants its own size.
    const int size = info.family == "inception" ? info.input_size : small_size(info);
    Case c{.model = info.name.c_str(), .size = size, .images = 2};
    const Calibrated calibrated = calibrated_model(c);
    Model& model = *calibrated.model;
    const Tensor images = images_for(c, c.images);
    for (const int bits : {8, 4}) {
      c.weight_bits = c.act_bits = bits;
      INFO(c);
      quantize_as(c, Engine::integer, calibrated);
      {
        const IntegerNetwork network = compile(model, c);
        check_same_results("model", network, network.forward_all(images), tape_values(model, images));
      }
      set_training(model, true);
      set_samples(model, {.seed = 1, .epoch = 0, .samples = {0, 1}});
      const std::vector<std::int32_t> labels{3, 7};
      const TrainingLogits outputs = model.forward_training(Var(images));
      const Var loss = cross_entropy(outputs.logits, labels);
      CHECK(std::isfinite(loss.value().item()));
      CHECK(outputs.auxiliary.defined() == (info.family == "inception"));
      backward(loss);
      for (const auto& [name, parameter] : parameters(model)) {
        if (name.starts_with("AuxLogits.")) continue;
        INFO(name);
        CHECK(parameter.grad().defined());
      }
    }
  }
}
