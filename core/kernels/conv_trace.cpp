#include "core/kernels/conv_trace.h"

#include <algorithm>
#include <chrono>
#include <mutex>

#include "core/kernels/block.h"
#include "core/kernels/conv_observer.h"
#include "core/kernels/conv_primitives.h"
#include "core/kernels/quad_gradient.h"
#include "core/kernels/unit.h"
#include "core/kernels/weight_gradient.h"
#include "core/parallel.h"

namespace faq::kernels {
namespace {

bool same_layer(const ConvCall& a, const ConvCall& b) {
  return a.pass == b.pass && a.x.with(0, 0) == b.x.with(0, 0) && a.weights == b.weights &&
         a.geometry.of(a.weights) == b.geometry.of(b.weights) && a.x_dtype == b.x_dtype &&
         a.weight_dtype == b.weight_dtype && a.y_dtype == b.y_dtype;
}

}  // namespace

struct ConvTrace::Impl {
  // Slices of one layer may come from several threads and in any order.
  void add(const ConvCall& call) {
    const std::lock_guard lock(mutex);
    const auto part_of = std::ranges::find_if(
        calls, [&](const ConvCall& c) { return same_layer(c, call) && c.x[0] + call.x[0] <= batch; });
    if (part_of == calls.end()) {
      calls.push_back(call);
    } else {
      part_of->x = part_of->x.with(0, part_of->x[0] + call.x[0]);
      part_of->y = part_of->y.with(0, part_of->x[0]);
    }
  }

  std::mutex mutex;
  bool is_running = false;
  std::int64_t batch = 0;
  std::vector<ConvCall> calls;
};

namespace {

// Fills a tensor with small numbers that the dtype can hold.
Tensor some(const Shape& shape, DType dtype) {
  Tensor t = Tensor::empty(shape, dtype);
  const bool is_unsigned = dtype == DType::u8;
  std::vector<float> values(block_length);
  for (std::int64_t i = 0; i < t.numel(); i += block_length) {
    const std::int64_t n = std::min(block_length, t.numel() - i);
    for (std::int64_t k = 0; k < n; ++k)
      values[k] = static_cast<float>((i + k) * 2654435761u >> 7 & 15) - (is_unsigned ? 0.0f : 8.0f);
    store_block(t.mutable_raw(), dtype, i, n, values.data());
  }
  return t;
}

void sum_gradient(const ConvCall& call, const Tensor& x, const Tensor& dy) {
  if (dy.dtype() == DType::s8) {
    const std::int64_t values = (x.numel() + dy.numel()) / std::max<std::int64_t>(call.x[0], 1);
    const ImageGroups groups(call.x[0], 6 * values, call.weights.numel());
    QuadGradient gradient(call.x, call.weights, call.geometry, groups.count());
    groups.for_each([&](std::int64_t group, int) {
      const std::int64_t first = groups.begin(group), last = groups.end(group);
      gradient.add(group, x.rows(first, last), {dy.rows(first, last), 1.0f});
    });
    gradient.sum();
    return;
  }
  WeightGradient gradient(call.weights, call.geometry, num_shares(call.x[0]));
  parallel_shares(call.x[0], [&](std::int64_t begin, std::int64_t end, int share) {
    gradient.add(x.rows(begin, end), dy.rows(begin, end), share);
  });
  gradient.sum();
}

// A deployed convolution has integers as outputs, which are requantized sums; any other has its sums.
bool is_deployed(const ConvCall& call) { return call.y_dtype == DType::u8 || call.y_dtype == DType::s8; }

void convolve(const ConvCall& call, const Tensor& x, const PackedWeights& weights, Tensor& y) {
  if (!is_deployed(call)) return onednn::convolve(x, weights.forms(), {}, call.geometry, y);
  const std::int64_t channels = y.dim(3);
  const Requantize params{Tensor::full({channels}, 0.01f),
                          Tensor::zeros({channels}),
                          0,
                          Activation::relu,
                          {.bits = 8, .is_signed = call.y_dtype == DType::s8}};
  conv2d_requantize(x, weights, call.geometry, Engine::integer, {}, params, y);
}

double median_seconds(const ConvCall& call, int repeats) {
  Tensor x = some(call.x, call.x_dtype);
  const PackedWeights weights(some(call.weights, call.weight_dtype));
  Tensor y = some(call.y, call.y_dtype);
  std::vector<double> seconds;
  for (int i = -2; i < repeats; ++i) {
    const auto start = std::chrono::steady_clock::now();
    switch (call.pass) {
      case ConvPass::forward:
        convolve(call, x, weights, y);
        break;
      case ConvPass::backward_data:
        onednn::convolve_backward_data(y, weights.forms(), call.geometry, x);
        break;
      case ConvPass::backward_weights:
        sum_gradient(call, x, y);
        break;
    }
    if (i >= 0)
      seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  std::ranges::sort(seconds);
  return seconds[seconds.size() / 2];
}

std::string description(const ConvCall& call) {
  constexpr const char* names[] = {"forward", "backward data", "backward weights"};
  return concat(names[static_cast<int>(call.pass)], " ", call.x_dtype, "·", call.weight_dtype, " ", call.x,
                " ⋆ ", call.weights, " stride ", call.geometry.stride);
}

}  // namespace

ConvTrace::ConvTrace(std::int64_t batch) : impl_(std::make_unique<Impl>()) {
  impl_->batch = batch;
  observe_convolutions([impl = impl_.get()](const ConvCall& call) { impl->add(call); });
  impl_->is_running = true;
}

ConvTrace::~ConvTrace() { stop(); }

void ConvTrace::stop() {
  if (!impl_->is_running) return;
  observe_convolutions({});
  impl_->is_running = false;
}

std::vector<ConvTrace::Row> ConvTrace::measure(int repeats) const {
  std::vector<std::pair<ConvCall, std::int64_t>> layers;
  for (const ConvCall& call : impl_->calls) {
    const auto same = std::ranges::find_if(
        layers, [&](const auto& layer) { return same_layer(layer.first, call) && layer.first.x == call.x; });
    if (same == layers.end()) {
      layers.emplace_back(call, 1);
    } else {
      ++same->second;
    }
  }
  std::vector<Row> rows;
  for (const auto& [call, count] : layers)
    rows.push_back({description(call), count, median_seconds(call, repeats)});
  return rows;
}

}  // namespace faq::kernels
