#include "tools/bench/layers.h"

namespace faq::bench {
namespace {

// Network, batch, size, channels, outputs, kernel, stride, groups.
constexpr ConvLayer conv_table[] = {
    {"resnet20", 128, 32, 3, 16, 3},
    {"resnet20", 128, 32, 16, 16, 3},
    {"resnet20", 128, 32, 16, 32, 3, 2},
    {"resnet20", 128, 16, 32, 32, 3},
    {"resnet20", 128, 16, 32, 64, 3, 2},
    {"resnet20", 128, 8, 64, 64, 3},
    {"resnet18", 16, 224, 3, 64, 7, 2},
    {"resnet18", 16, 56, 64, 64, 3},
    {"resnet18", 16, 56, 64, 128, 3, 2},
    {"resnet18", 16, 56, 64, 128, 1, 2},
    {"resnet18", 16, 28, 128, 128, 3},
    {"resnet18", 16, 14, 256, 256, 3},
    {"resnet18", 16, 7, 512, 512, 3},
    {"resnet50", 16, 56, 64, 256, 1},
    {"resnet50", 16, 56, 256, 64, 1},
    {"resnet50", 16, 56, 256, 512, 1, 2},
    {"resnet50", 16, 28, 128, 512, 1},
    {"resnet50", 16, 28, 512, 128, 1},
    {"resnet50", 16, 14, 256, 1024, 1},
    {"resnet50", 16, 14, 1024, 256, 1},
    {"resnet50", 16, 7, 512, 2048, 1},
    {"resnet50", 16, 7, 2048, 512, 1},
    {"mobilenet", 16, 112, 32, 32, 3, 1, 32},
    {"mobilenet", 16, 112, 96, 96, 3, 2, 96},
    {"mobilenet", 16, 56, 144, 144, 3, 1, 144},
    {"mobilenet", 16, 28, 192, 192, 3, 1, 192},
    {"mobilenet", 16, 14, 384, 384, 3, 1, 384},
    {"mobilenet", 16, 14, 576, 576, 3, 2, 576},
    {"mobilenet", 16, 7, 960, 960, 3, 1, 960},
    {"lite0", 16, 56, 144, 144, 5, 2, 144},
    {"lite0", 16, 28, 240, 240, 5, 1, 240},
    {"lite0", 16, 14, 672, 672, 5, 1, 672},
    {"lite0", 16, 7, 1152, 1152, 5, 1, 1152},
    {"resnext50", 16, 56, 128, 128, 3, 1, 32},
    {"resnext50", 16, 14, 512, 512, 3, 1, 32},
};

constexpr ConvLayer signed_table[] = {
    {"resnet18", 8, 56, 64, 64, 3},
    {"resnet18", 8, 56, 64, 64, 1},
    {"vgg16", 8, 224, 3, 64, 3},
    {"resnet18", 8, 224, 3, 64, 7, 2},
};

constexpr Map map_table[] = {
    {"resnet20", 128, 32, 16},  {"resnet20", 128, 16, 32}, {"resnet20", 128, 8, 64},
    {"resnet18", 16, 112, 64},  {"resnet18", 16, 56, 64},  {"resnet18", 16, 28, 128},
    {"resnet18", 16, 14, 256},  {"resnet18", 16, 7, 512},  {"resnet50", 16, 56, 256},
    {"resnet50", 16, 14, 1024},
};

std::string extents(const char* network, std::int64_t size, std::int64_t channels) {
  return concat(network, "/", size, "x", size, "x", channels);
}

}  // namespace

std::string ConvLayer::name() const {
  std::string name = extents(network, size, channels);
  if (outputs != channels) name += concat("_to", outputs);
  name += concat("_", kernel, "x", kernel);
  if (stride != 1) name += concat("_s", stride);
  if (groups != 1) name += concat("_g", groups);
  return name;
}

Shape ConvLayer::y() const { return kernels::conv2d_shape(x(), weights(), geometry()); }

double ConvLayer::operations() const {
  return 2.0 * static_cast<double>(y().numel()) * static_cast<double>(weights().numel() / outputs);
}

std::span<const ConvLayer> conv_layers() { return conv_table; }

std::span<const ConvLayer> signed_layers() { return signed_table; }

std::string Map::name() const { return extents(network, size, channels); }

std::span<const Map> maps() { return map_table; }

}  // namespace faq::bench
