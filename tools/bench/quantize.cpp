// From real numbers to integers: activations, and the weights of each training step.
#include "core/kernels/elementwise.h"
#include "quant/scheme.h"
#include "tools/bench/bench.h"
#include "tools/bench/layers.h"

namespace faq::bench {
namespace {

void add_activations(const Map& map) {
  add("quantize_activations/" + map.name(), {.items = map.batch, .bytes = 5 * map.shape().numel()},
      [=]() -> Kernel {
        return [x = reals(map.shape(), DType::f32)] { kernels::quantize(x, {.scale = 0x1p-4f, .bits = 4}); };
      });
}

// The scale included, which is chosen anew each time.
struct WeightRow {
  const char* name;
  Scheme scheme;
  int bits;
};
constexpr WeightRow weight_rows[] = {
    {"faq_8bit", Scheme::faq, 8},
    {"faq_4bit", Scheme::faq, 4},
    {"dfp_4bit", Scheme::dfp, 4},
    {"dorefa_4bit", Scheme::dorefa, 4},
};

// Items are weights.
void add_weights(const WeightRow& row, const Shape& shape) {
  const std::string name =
      concat("quantize_weights/", row.name, "/", shape[0], "x", shape[1], "x", shape[2], "x", shape[3]);
  add(name, {.items = shape.numel()}, [=]() -> Kernel {
    return [=, w = reals(shape, DType::f32)] {
      const NumberFormat format{.scheme = row.scheme, .weight_bits = row.bits};
      const NoGrad no_grad;
      quantize_weights(rounded_argument(Var(w), row.bits, format).value(), row.bits, format);
    };
  });
}

}  // namespace

void add_quantize() {
  for (const Map& map : maps()) add_activations(map);
  for (const WeightRow& row : weight_rows) {
    for (const Shape& shape : {Shape{16, 16, 3, 3}, Shape{64, 64, 3, 3}, Shape{512, 512, 3, 3}})
      add_weights(row, shape);
  }
}

}  // namespace faq::bench
