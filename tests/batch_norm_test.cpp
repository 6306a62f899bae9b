#include "nn/batch_norm.h"

#include <stdexcept>

#include "tests/testing.h"

using namespace faq;
using namespace faq::testing;

TEST_CASE("when the images fail, modes and momenta are what they were", "[batch_norm]") {
  const OneThread one_thread;
  const auto model = make_model("resnet20", {});
  initialize(*model, 1);
  for (const bool training : {true, false}) {
    INFO("training " << training);
    set_training(*model, training);
    CHECK_THROWS_AS(reestimate_batch_norm(*model,
                                          [left = 2]() mutable -> std::optional<Tensor> {
                                            if (left-- == 0) throw std::runtime_error("on purpose");
                                            return Tensor::zeros({2, 8, 8, 3}, DType::u8);
                                          }),
                    std::runtime_error);
    for_each_unit(*model, [&](const std::string& name, Unit& unit) {
      INFO(name);
      CHECK(unit.training() == training);
      if (auto* conv = dynamic_cast<ConvUnit*>(&unit)) CHECK(conv->norm().momentum == 0.1f);
    });
  }
}
