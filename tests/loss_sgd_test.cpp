#include <cmath>

#include "core/kernels/loss.h"
#include "core/kernels/quantization_error.h"
#include "core/kernels/sgd.h"
#include "tests/catch.h"
#include "tests/reference.h"

using namespace faq;

namespace {

struct Expected {
  double loss = 0;
  std::vector<double> dlogits;
};

// −Σ target·log softmax(z) / N and (softmax(z) − target) / N
Expected cross_entropy(const Tensor& logits, const std::vector<std::int32_t>& labels, double smoothing) {
  const auto n = static_cast<std::size_t>(logits.dim(0)), classes = static_cast<std::size_t>(logits.dim(1));
  const std::vector<double> z = reference::numbers(logits);
  Expected e;
  for (std::size_t i = 0; i < n; ++i) {
    const double max = *std::max_element(&z[i * classes], &z[i * classes] + classes);
    double sum = 0;
    for (std::size_t k = 0; k < classes; ++k) sum += std::exp(z[i * classes + k] - max);
    for (std::size_t k = 0; k < classes; ++k) {
      const double target = smoothing / static_cast<double>(classes) +
                            (static_cast<std::size_t>(labels[i]) == k ? 1 - smoothing : 0);
      const double log_softmax = z[i * classes + k] - max - std::log(sum);
      e.loss -= target * log_softmax / static_cast<double>(n);
      e.dlogits.push_back((std::exp(log_softmax) - target) / static_cast<double>(n));
    }
  }
  return e;
}

}  // namespace

TEST_CASE("cross-entropy against double", "[loss]") {
  struct Row {
    Shape shape;
    double scale;
    float smoothing;
  };
  for (const Row& row : {Row{{1, 2}, 1, 0},
                         {{8, 10}, 5, 0},
                         {{8, 10}, 5, 0.1f},
                         {{3, 1000}, 3, 0.1f},
                         {{4, 7}, 1e4, 0},
                         {{4, 7}, 1e4, 0.1f},
                         {{5, 3}, 0, 0.2f}}) {
    INFO(row.shape << ", scale " << row.scale << ", smoothing " << row.smoothing);
    const Tensor logits = reference::random(row.shape, 1, -row.scale, row.scale);
    std::vector<std::int32_t> labels;
    for (std::int64_t i = 0; i < row.shape[0]; ++i)
      labels.push_back(static_cast<std::int32_t>((i * 3 + 1) % row.shape[1]));
    const kernels::CrossEntropy result = kernels::cross_entropy(logits, labels, row.smoothing);
    const Expected expected = cross_entropy(logits, labels, row.smoothing);
    CHECK(result.loss == Approx(expected.loss).epsilon(1e-12));
    CHECK(reference::relative_error(result.dlogits, expected.dlogits) < 1e-6);
  }
}

TEST_CASE("cross-entropy of known values", "[loss]") {
  const std::vector<std::int32_t> labels{0};
  CHECK(kernels::cross_entropy(Tensor::zeros({1, 10}), labels, 0).loss == Approx(std::log(10)));
  CHECK(kernels::cross_entropy(Tensor::from({1, 2}, {1000, 0}), labels, 0).loss == 0);
  CHECK(kernels::cross_entropy(Tensor::from({1, 2}, {-1000, 0}), labels, 0).loss == 1000);
  CHECK(std::isnan(kernels::cross_entropy(Tensor::from({1, 2}, {NAN, 0}), labels, 0).loss));
}

TEST_CASE("cross-entropy refuses wrong labels", "[loss]") {
  const Tensor logits = Tensor::zeros({2, 3});
  const auto loss = [&](const std::vector<std::int32_t>& labels) {
    return kernels::cross_entropy(logits, labels, 0);
  };
  CHECK_THROWS_WITH(loss({0, 3}), Catch::Contains("label 3 with 3 classes"));
  CHECK_THROWS_WITH(loss({-1, 0}), Catch::Contains("label -1"));
  CHECK_THROWS_WITH(loss({0}), Catch::Contains("2 logits, 1 labels"));
  CHECK_THROWS_AS(kernels::cross_entropy(Tensor::zeros({2}), std::vector<std::int32_t>{0, 0}, 0), Error);
  try {
    loss({0, 3});
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::bad_data);
  }
}

TEST_CASE("SGD is PyTorch's", "[sgd]") {
  struct Row {
    const char* name;
    kernels::SgdStep step;
  };
  const Row rows[] = {
      {"plain", {.lr = 0.1f, .momentum = 0, .weight_decay = 0}},
      {"momentum", {.lr = 0.1f, .momentum = 0.9f, .weight_decay = 0}},
      {"weight decay", {.lr = 0.1f, .momentum = 0, .weight_decay = 0.01f}},
      {"everything", {.lr = 0.05f, .momentum = 0.9f, .weight_decay = 1e-4f, .grad_scale = 0.25f}}};
  for (const Row& row : rows) {
    for (std::int64_t n : {1, 17, 40'000}) {
      INFO(row.name << ", " << n << " weights");
      Tensor w = reference::random({n}, 1), v = Tensor::zeros({n});
      std::vector<double> wd = reference::numbers(w), vd(wd.size());
      for (int step = 0; step < 4; ++step) {
        const Tensor g = reference::random({n}, 2 + static_cast<std::uint64_t>(step));
        const std::vector<double> gd = reference::numbers(g);
        for (std::size_t i = 0; i < wd.size(); ++i) {
          vd[i] = row.step.momentum * vd[i] + gd[i] * row.step.grad_scale + row.step.weight_decay * wd[i];
          wd[i] -= row.step.lr * vd[i];
        }
        kernels::sgd_update(w, v, g, row.step);
      }
      CHECK(reference::relative_error(w, wd) < 1e-6);
      CHECK(reference::relative_error(v, vd) < 1e-6);
    }
  }
}

TEST_CASE("SGD of a known value", "[sgd]") {
  Tensor w = Tensor::full({1}, 2), v = Tensor::full({1}, 1);
  kernels::sgd_update(w, v, Tensor::full({1}, 3),
                      {.lr = 0.5f, .momentum = 0.5f, .weight_decay = 0.25f, .grad_scale = 2});
  CHECK(v.item() == 7);     // 0.5·1 + 3·2 + 0.25·2
  CHECK(w.item() == -1.5);  // 2 − 0.5·7
}

TEST_CASE("SGD sees the errors of the weights it writes", "[sgd][isa]") {
  const std::vector<FixedPoint> formats{{.scale = 0.5f, .bits = 4, .is_signed = true},
                                        {.scale = 0.03125f, .bits = 8, .is_signed = true}};
  const kernels::SgdStep step{.lr = 0.1f, .momentum = 0.9f, .weight_decay = 1e-4f};
  for (const std::int64_t n : {1, 4095, 4096, 4097, 100'003}) {
    INFO(n << " weights");
    const Tensor start = reference::random({n}, 1), g = reference::random({n}, 2);
    Tensor w = start.clone(), v = Tensor::zeros({n}), alone = start.clone(), v_alone = Tensor::zeros({n});
    kernels::QuantizationErrors errors(n, formats);
    kernels::sgd_update(w, v, g, step, &errors);
    kernels::sgd_update(alone, v_alone, g, step);
    CHECK(reference::same_bytes(w, alone));
    CHECK(reference::same_bytes(v, v_alone));
    double largest = 0;
    for (const double x : reference::numbers(w)) largest = std::max(largest, std::abs(x));
    CHECK(errors.max_magnitude() == largest);
    CHECK(errors.max_magnitude() == kernels::max_magnitude(w));
    CHECK(errors.errors() == kernels::quantization_errors(w, formats));
  }
}

TEST_CASE("the largest magnitude of no weights, of zeros, of NaN", "[sgd]") {
  CHECK(kernels::max_magnitude(Tensor::zeros({0})) == 0);
  CHECK(kernels::max_magnitude(Tensor::full({3}, -0.0f)) == 0);
  CHECK(kernels::max_magnitude(Tensor::from({3}, {1, -4, 2})) == 4);
  CHECK(std::isnan(kernels::max_magnitude(Tensor::from({3}, {1, NAN, 2}))));
}

TEST_CASE("SGD refuses what does not fit together", "[sgd]") {
  Tensor two = Tensor::zeros({2}), three = Tensor::zeros({3});
  const kernels::SgdStep step{.lr = 1, .momentum = 0, .weight_decay = 0};
  CHECK_THROWS_AS(kernels::sgd_update(two, three, two, step), Error);
  CHECK_THROWS_WITH(kernels::sgd_update(two, two, three, step), Catch::Contains("gradient [3]"));
}
