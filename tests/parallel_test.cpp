#include "core/parallel.h"

#include <omp.h>

#include <thread>

#include "core/kernels/weight_gradient.h"
#include "tests/testing.h"

using namespace faq;
using namespace faq::testing;

namespace {

// The gradient of weights is what oneDNN divides among all threads, which then wait for each other.
Tensor weight_gradient(const Tensor& x, const Tensor& dy) {
  return kernels::conv2d_backward_weights(x, dy, {8, 8, 3, 3}, {.stride = 1, .padding = 1});
}

Tensor ones(const Shape& shape) { return Tensor::full(shape, 1.0f); }

}  // namespace

TEST_CASE("kernels end in a parallel region of the caller, and beside other threads", "[threads]") {
  const Tensor x = ones({4, 12, 12, 8}), dy = ones({4, 12, 12, 8});
  set_num_threads(1);
  const Tensor expected = weight_gradient(x, dy);
  for (const int threads : {1, 2, 4}) {
    INFO(threads);
    set_num_threads(threads);
    CHECK(num_threads() == threads);
    CHECK(weight_gradient(x, dy).span<float>()[0] == expected.span<float>()[0]);
    std::vector<float> found(3, 0.0f);
#pragma omp parallel num_threads(3)
    found[static_cast<std::size_t>(omp_get_thread_num())] = weight_gradient(x, dy).span<float>()[0];
    CHECK(omp_get_max_threads() == threads);
    for (const float value : found) CHECK(value == expected.span<float>()[0]);
    std::vector<std::thread> others;
    std::vector<float> of_others(3, 0.0f);
    for (float& value : of_others)
      others.emplace_back([&, threads] {
        omp_set_dynamic(1);
        set_num_threads(threads);
        value = weight_gradient(x, dy).span<float>()[0];
      });
    for (std::thread& other : others) other.join();
    for (const float value : of_others) CHECK(value == expected.span<float>()[0]);
  }
  set_num_threads(0);
}

TEST_CASE("what the caller has set is as before", "[threads]") {
  std::thread([] {
    omp_set_dynamic(1);
    omp_set_num_threads(3);
    weight_gradient(ones({2, 6, 6, 8}), ones({2, 6, 6, 8}));
    CHECK(omp_get_dynamic() != 0);
    CHECK(omp_get_max_threads() == 3);
  }).join();
}
