// The layers of the networks whose kernels are timed.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "core/kernels/conv_geometry.h"

namespace faq::bench {

/// A convolution of square images, with a border of half its kernel.
struct ConvLayer {
  const char* network;
  std::int64_t batch;
  std::int64_t size;      ///< height and width of the input
  std::int64_t channels;  ///< of the input
  std::int64_t outputs;
  int kernel;
  int stride = 1;
  int groups = 1;

  /// "resnet18/56x56x64_3x3", "resnet18/56x56x64_to128_3x3_s2", "mobilenet/14x14x384_3x3_g384".
  std::string name() const;
  Shape x() const { return {batch, size, size, channels}; }
  Shape weights() const { return {outputs, channels / groups, kernel, kernel}; }
  Shape y() const;
  ConvGeometry geometry() const {
    return {.kernel = kernel, .stride = stride, .padding = kernel / 2, .groups = groups};
  }
  double operations() const;
};

/// Those that differ, of ResNet-20, -18 and -50 (what ResNet-18 has not), and depthwise and grouped ones of
/// MobileNetV2, EfficientNet-Lite0 and ResNeXt-50.
std::span<const ConvLayer> conv_layers();
/// Those whose input may be signed: what pixels become, and values that no activation has clipped.
std::span<const ConvLayer> signed_layers();

/// What follows a convolution: a map of its outputs.
struct Map {
  const char* network;
  std::int64_t batch;
  std::int64_t size;
  std::int64_t channels;

  /// "resnet18/56x56x64".
  std::string name() const;
  Shape shape() const { return {batch, size, size, channels}; }
};

std::span<const Map> maps();

}  // namespace faq::bench
