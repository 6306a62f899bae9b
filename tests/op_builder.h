// Integer networks of chosen ops with random weights, for exporters.
#pragma once

#include <map>
#include <memory>
#include <vector>

#include "quant/deploy/integer_network.h"
#include "tests/reference.h"

namespace faq::testing {

// Ops with random weights, one after the other, and the shapes between them.
class Builder {
 public:
  Builder(int height, int width, int channels, const FixedPoint& input = {1, 8, true})
      : preprocessing_{.height = height, .width = width, .channels = channels} {
    InputOp op;
    op.table = reference::random_fixed_point({channels, 256}, ++salt_, input);
    add(std::move(op), {0}, channels, input);
  }

  int conv(int x, int channels, const ConvGeometry& geometry, const FixedPoint& format, int weight_bits = 8,
           int residual = -1, Activation activation = Activation::relu) {
    ConvOp op;
    const FixedPoint weights{0.5f, weight_bits, true};
    op.weights = {reference::random_fixed_point({channels, channels_[x] / geometry.groups,
                                                 geometry.kernel.height, geometry.kernel.width},
                                                ++salt_, weights),
                  weight_bits};
    op.geometry = geometry;
    op.requantize = requantize(channels, format, geometry.groups / (20.0 * channels_[x]));
    op.requantize.activation = activation;
    std::vector<int> inputs{x};
    if (residual >= 0) {
      inputs.push_back(residual);
      op.requantize.residual_multiplier = residual_multiplier(formats_[residual].scale, format);
    }
    return add(std::move(op), inputs, channels, format);
  }
  int norm_act(int x, const FixedPoint& format) {
    NormActOp op;
    op.requantize = requantize(channels_[x], format, 0.5);
    return add(std::move(op), {x}, channels_[x], format);
  }
  int max_pool(int x, const kernels::MaxPoolOptions& options) {
    MaxPoolOp op;
    op.options = options;
    return add(std::move(op), {x}, channels_[x], formats_[x]);
  }
  int avg_pool(int x, const kernels::AvgPoolOptions& options) {
    AvgPoolOp op;
    op.options = options;
    return add(std::move(op), {x}, channels_[x], formats_[x]);
  }
  int shortcut(int x, int stride, int channels) {
    ShortcutOp op;
    op.stride = stride;
    op.out_channels = channels;
    return add(std::move(op), {x}, channels, formats_[x]);
  }
  int concat_of(const std::vector<int>& parts) {
    int channels = 0;
    for (const int part : parts) channels += channels_[part];
    return add(ConcatOp(), parts, channels, formats_[parts[0]]);
  }
  int global_avg_pool(int x) { return add(GlobalAvgPoolOp(), {x}, channels_[x], formats_[x]); }

  IntegerNetwork classifier(int x, const FixedPoint& input, int classes) {
    LinearOp op;
    op.input = input;
    op.weights = {reference::random_fixed_point({classes, channels_[x]}, ++salt_, {0.3f, 8, true}), 8};
    op.multiplier = Tensor::full({classes}, logit_scale(op));
    op.bias = reference::random({classes}, ++salt_, -3, 3);
    add(std::move(op), {x}, classes);
    return {nodes_, preprocessing_};
  }

 private:
  template <class Op>
  int add(Op op, const std::vector<int>& inputs, int channels, const FixedPoint& format = {1, 8, true}) {
    op.name = concat("op", nodes_.size());
    nodes_.push_back({std::make_shared<Op>(std::move(op)), inputs});
    channels_[static_cast<int>(nodes_.size())] = channels;
    formats_[static_cast<int>(nodes_.size())] = format;
    return static_cast<int>(nodes_.size());
  }
  kernels::Requantize requantize(int channels, const FixedPoint& format, double size) {
    return {.multiplier = reference::random({channels}, ++salt_, -size, size),
            .bias = reference::random({channels}, ++salt_, -5, format.max()),
            .format = format};
  }

  Preprocessing preprocessing_;
  std::vector<IntegerNetwork::Node> nodes_;
  std::map<int, int> channels_;
  std::map<int, FixedPoint> formats_;
  std::uint64_t salt_ = 0;
};

// Every op, with what it has of sides, signs and borders.
inline IntegerNetwork all_ops() {
  const FixedPoint u4{0.5f, 4, false}, s8{0.25f, 8, true}, u8{0.37f, 8, false};
  Builder b(19, 14, 3);
  const int stem = b.conv(1, 6, {.kernel = 3, .stride = 2, .padding = 1}, u4);
  const int wide = b.conv(stem, 8, {.kernel = {1, 7}, .padding = {0, 3}}, s8, 4, -1, Activation::identity);
  const int tall = b.conv(wide, 8, {.kernel = {5, 1}, .padding = {2, 0}}, s8, 2, wide, Activation::identity);
  const int signed_max = b.max_pool(tall, {.kernel = 3, .stride = 2, .padding = 1});
  const int signed_mean = b.avg_pool(tall, {.kernel = 2, .stride = 2, .padding = 1});
  const int rectified = b.norm_act(signed_max, u8);
  const int odd = b.conv(rectified, 7, {.kernel = 2, .padding = {0, 1, 1, 0}}, u8, 3);
  const int both = b.concat_of({rectified, odd});
  const int again = b.conv(signed_mean, 8, {.kernel = 1}, s8, 8, -1, Activation::identity);
  const int gathered = b.conv(again, 8, {.kernel = 6, .stride = 1, .padding = 5}, u8, 4);
  const int padded = b.shortcut(both, 2, 20);
  const int mean = b.avg_pool(padded, {.output = 2});
  const int largest = b.max_pool(gathered, {.kernel = 2, .stride = 2, .padding = 0});
  const int three = b.avg_pool(largest, {.output = 2});
  const int joined = b.concat_of({mean, three});
  // Depthwise with a ReLU6, and in groups without activation.
  const int apart =
      b.conv(joined, 28, {.kernel = 3, .padding = {0, 1, 1, 1}, .groups = 28}, u4, 4, -1, Activation::relu6);
  const int grouped =
      b.conv(apart, 12, {.kernel = 2, .padding = {1, 1, 0, 0}, .groups = 4}, s8, 8, -1, Activation::identity);
  return b.classifier(b.global_avg_pool(grouped), {0.7f, 8, false}, 9);
}

}  // namespace faq::testing
