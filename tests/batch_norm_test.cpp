#include "nn/batch_norm.h"

#include <stdexcept>

#include "tests/testing.h"

using namespace faq;
using namespace faq::testing;

TEST_CASE("when the images fail, the statistics are those of the batches until then", "[batch_norm]") {
  const OneThread one_thread;
  const auto model = make_model("resnet20", {}), other = make_model("resnet20", {});
  for (Model* m : {model.get(), other.get()}) initialize(*m, 1);
  const auto images = [](int batch) {
    return reference::random_integers<std::uint8_t>({2, 8, 8, 3}, static_cast<std::uint64_t>(batch), 0, 255);
  };
  CHECK_THROWS_AS(reestimate_batch_norm(*model,
                                        [&, batch = 0]() mutable -> std::optional<Tensor> {
                                          if (batch == 2) throw std::runtime_error("on purpose");
                                          return images(batch++);
                                        }),
                  std::runtime_error);
  CHECK(reestimate_batch_norm(*other, [&, batch = 0]() mutable -> std::optional<Tensor> {
          return batch < 2 ? std::optional(images(batch++)) : std::nullopt;
        }) == 2);
  const auto found = buffers(*model), expected = buffers(*other);
  for (std::size_t i = 0; i < found.size(); ++i) {
    INFO(found[i].name);
    CHECK(reference::same_bytes(found[i].value, expected[i].value));
  }
}
