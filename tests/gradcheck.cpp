#include "tests/gradcheck.h"

#include <algorithm>
#include <cmath>

#include "core/rng.h"
#include "tests/catch.h"
#include "tests/reference.h"

namespace faq {
namespace {

Tensor shuffled_grid(const Shape& shape, std::uint64_t salt, double scale, double away_from_zero) {
  const std::int64_t n = shape.numel();
  std::vector<float> values(n);
  for (std::int64_t i = 0; i < n; ++i) {
    const double position = (static_cast<double>(i) + 0.5) / static_cast<double>(n) * 2 - 1;
    const double magnitude = away_from_zero + (1 - away_from_zero) * std::abs(position);
    values[i] = static_cast<float>(scale * (position < 0 ? -magnitude : magnitude));
  }
  Random random(3, RandomStream::test, salt);
  for (std::int64_t i = n - 1; i > 0; --i)
    std::swap(values[i], values[random.below(static_cast<std::uint32_t>(i + 1))]);
  return Tensor::from<float>(shape, values);
}

double dot(const Tensor& a, const Tensor& b) {
  const std::vector<double> x = reference::numbers(a), y = reference::numbers(b);
  double sum = 0;
  for (std::size_t i = 0; i < x.size(); ++i) sum += x[i] * y[i];
  return sum;
}

}  // namespace

void gradcheck(const std::function<Var(const std::vector<Var>&)>& op, const std::vector<Shape>& shapes,
               const GradcheckOptions& options) {
  std::vector<Var> inputs;
  for (std::size_t i = 0; i < shapes.size(); ++i) {
    const double scale = i < options.scales.size() ? options.scales[i] : 1;
    inputs.emplace_back(shuffled_grid(shapes[i], i, scale, options.away_from_zero), true);
  }
  const Var output = op(inputs);
  const Tensor projection = reference::random(output.shape(), 1000);
  backward(output, projection);

  for (std::size_t i = 0; i < inputs.size(); ++i) {
    INFO("gradient of input " << i << " of shape " << shapes[i]);
    REQUIRE(inputs[i].grad().defined());
    REQUIRE(inputs[i].grad().shape() == shapes[i]);
    const NoGrad no_grad;
    std::vector<double> numeric;
    for (std::int64_t k = 0; k < shapes[i].numel(); ++k) {
      const auto set = [&](double value) {
        inputs[i].mutable_value().mutable_data<float>()[k] = static_cast<float>(value);
      };
      const double original = inputs[i].value().data<float>()[k];
      set(original + options.eps);
      const double above = dot(op(inputs).value(), projection);
      set(original - options.eps);
      const double below = dot(op(inputs).value(), projection);
      set(original);
      numeric.push_back((above - below) / (2 * options.eps));
    }
    CHECK(reference::relative_error(inputs[i].grad(), numeric) < options.tolerance);
  }
}

}  // namespace faq
