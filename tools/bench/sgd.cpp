// The optimizer's update of one parameter.
#include "core/kernels/sgd.h"

#include "tools/bench/bench.h"

namespace faq::bench {

void add_sgd() {
  for (const Shape& shape : {Shape{16, 16, 3, 3}, Shape{64, 64, 3, 3}, Shape{512, 512, 3, 3}}) {
    const std::string name = concat("sgd/", shape[0], "x", shape[1], "x", shape[2], "x", shape[3]);
    // Weights and velocity are read and written, the gradient is read. Items are weights.
    add(name, {.items = shape.numel(), .bytes = 5 * 4 * shape.numel()}, [=]() -> Kernel {
      return
          [w = reals(shape, DType::f32), v = Tensor::zeros(shape), g = reals(shape, DType::f32)]() mutable {
            kernels::sgd_update(w, v, g, {.lr = 1e-4f, .momentum = 0.9f, .weight_decay = 1e-4f});
          };
    });
  }
}

}  // namespace faq::bench
