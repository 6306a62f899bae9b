#include "nn/looks_like.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <vector>

#include "core/error.h"

namespace faq {
namespace {

using Tensors = std::map<std::string, const Tensor*>;

bool has_prefix(const Tensors& tensors, const std::string& prefix) {
  const auto found = tensors.lower_bound(prefix);
  return found != tensors.end() && found->first.starts_with(prefix);
}

/// How many of PREFIX1, PREFIX2, … (from `first` on) names begin with, `suffix` after the number.
int count(const Tensors& tensors, const std::string& prefix, int first, const std::string& suffix) {
  int n = 0;
  while (n < 1000 && has_prefix(tensors, concat(prefix, first + n, suffix))) ++n;
  return n;
}

const Tensor* find(const Tensors& tensors, const char* name) {
  const auto found = tensors.find(name);
  return found == tensors.end() ? nullptr : found->second;
}

// --- networks that differ in their depths

struct Depths {
  std::array<int, 4> blocks;
  const char* name;
  const char* with_bottlenecks = "";
};
constexpr Depths resnets[] = {{{1, 1, 1, 1}, "10", "14"},
                              {{2, 2, 2, 2}, "18", "26"},
                              {{3, 4, 6, 3}, "34", "50"},
                              {{3, 4, 23, 3}, "", "101"},
                              {{3, 8, 36, 3}, "", "152"}};
constexpr Depths densenets[] = {
    {{6, 12, 24, 16}, "121"}, {{6, 12, 32, 32}, "169"}, {{6, 12, 48, 32}, "201"}, {{6, 12, 36, 24}, "161"}};

bool has_bottlenecks(const Tensors& t) { return t.contains("layer1.0.conv3.weight"); }

/// "resnet18": of the ResNets, whatever their stems.
std::string resnet(const Tensors& t) {
  std::array<int, 4> blocks{};
  for (std::size_t i = 0; i < blocks.size(); ++i) blocks[i] = count(t, concat("layer", i + 1, "."), 0, ".");
  if (blocks[3] == 0) {  // CIFAR's have three stages of the same depth
    const bool is_one =
        blocks[0] > 0 && blocks[0] == blocks[1] && blocks[1] == blocks[2] && !has_bottlenecks(t);
    return is_one ? concat("resnet", 6 * blocks[0] + 2) : "";
  }
  const auto row = std::ranges::find(resnets, blocks, &Depths::blocks);
  return row == std::end(resnets) ? ""
                                  : concat("resnet", has_bottlenecks(t) ? row->with_bottlenecks : row->name);
}

std::string densenet(const Tensors& t) {
  std::array<int, 4> blocks{};
  for (std::size_t i = 0; i < blocks.size(); ++i)
    blocks[i] = count(t, concat("features.denseblock", i + 1, ".denselayer"), 1, ".");
  const auto row = std::ranges::find(densenets, blocks, &Depths::blocks);
  return row == std::end(densenets) ? "" : concat("densenet", row->name);
}

std::string vgg(const Tensors& t) {
  int convolutions = 0;
  for (const auto& [name, tensor] : t)
    convolutions += name.starts_with("features.") && name.ends_with(".weight") && tensor->rank() == 4;
  const bool normalized = t.contains("features.1.running_mean");
  for (const int with : {8, 10, 13, 16})
    if (convolutions == with) return concat("vgg", with + 3, normalized ? "_bn" : ": it has no batch-norm");
  return "";
}

// --- what other families alone have

struct Sign {
  std::vector<const char*> names;  ///< tensors, or, with a dot at the end, what tensors begin with
  const char* what;
  std::string (*made)(const Tensors&) = nullptr;  ///< instead of `what`
};

std::string with_deep_stem(const Tensors& t) {
  const std::string name = resnet(t);
  return concat("timm's ", name.empty() ? "resnet…" : name, "d: the stem has three convolutions");
}
std::string with_excitation(const Tensors& t) {
  const std::string name = resnet(t);
  return concat("timm's se", name.empty() ? "resnet" : name, ": its blocks have squeeze-and-excitation");
}

/// "efficientnet_lite0", where nothing but its depths and widths is there.
std::string with_inverted_residuals(const Tensors& t) {
  std::array<int, 7> blocks{};
  for (std::size_t i = 0; i < blocks.size(); ++i) blocks[i] = count(t, concat("blocks.", i, "."), 0, ".");
  const Tensor* third = find(t, "blocks.2.0.conv_pwl.weight");
  const bool plain = !has_prefix(t, "blocks.0.0.se.") && !has_prefix(t, "blocks.1.0.se.");
  if (plain && third && blocks == std::array{1, 2, 2, 3, 3, 4, 1}) return "efficientnet_lite0";
  if (plain && third && blocks == std::array{1, 3, 3, 4, 4, 5, 1})
    return third->dim(0) == 40 ? "efficientnet_lite1" : "efficientnet_lite2";
  return "timm's EfficientNet or MobileNet";
}

const std::vector<Sign>& signs() {
  static const std::vector<Sign> rows{
      {{"conv1.0.weight", "conv1.3.weight", "conv1.6.weight", "layer1."}, "", with_deep_stem},
      {{"layer1.0.se.fc1.weight"}, "", with_excitation},
      {{"layer1.0.se_module.fc1.weight"}, "", with_excitation},
      {{"patch_embed.proj.weight", "layers.0.blocks.0.attn.relative_position_bias_table"},
       "a Swin Transformer"},
      {{"patch_embed.proj.weight", "blocks.0.attn.qkv.weight"}, "a vision transformer"},
      {{"conv_proj.weight", "encoder.layers.encoder_layer_0."}, "a vision transformer"},
      {{"visual.conv1.weight"}, "CLIP"},
      {{"stages.0.blocks.0.conv_dw.weight"}, "timm's ConvNeXt"},
      {{"features.1.0.layer_scale"}, "torchvision's ConvNeXt"},
      {{"conv_stem.weight", "blocks.0.0."}, "", with_inverted_residuals},
      {{"features.0.0.weight", "features.1.conv.0.0.weight"}, "mobilenet_v2"},
      {{"features.0.0.weight", "features.1.block.0.0.weight"}, "torchvision's MobileNetV3 or EfficientNet"},
      {{"features.0.0.weight", "features.1.0.block.0.0.weight"}, "torchvision's MobileNetV3 or EfficientNet"},
      {{"features.3.squeeze.weight"}, "SqueezeNet"},
      {{"inception3a.branch1.conv.weight"}, "GoogLeNet"},
      {{"trunk_output.block1."}, "torchvision's RegNet"},
      {{"s1.b1.conv1.conv.weight"}, "timm's RegNet"},
      {{"stage2.0.branch2.0.weight"}, "ShuffleNet"},
      {{"Mixed_5b.branch0.conv.weight"}, "Inception-ResNet-v2 or Inception-v4"},
      {{"features.conv0.weight", "features.denseblock1."}, "", densenet},
      {{"Conv2d_1a_3x3.conv.weight", "Mixed_5b.branch1x1.conv.weight"}, "inception_v3"},
      {{"features.0.weight", "features.10.weight", "classifier.6.weight"},
       "",
       [](const Tensors& t) {
         const Tensor* stem = find(t, "features.0.weight");
         return stem->rank() == 4 && stem->dim(2) == 11 ? "alexnet" : vgg(t);
       }},
  };
  return rows;
}

}  // namespace

std::string looks_like(const Tensors& tensors) {
  const auto is_there = [&](const std::string& name) {
    return name.ends_with('.') ? has_prefix(tensors, name) : tensors.contains(name);
  };
  for (const Sign& sign : signs())
    if (std::ranges::all_of(sign.names, is_there)) return sign.made ? sign.made(tensors) : sign.what;
  const std::string name = resnet(tensors);
  if (name.empty()) return "";
  const Tensor* first = find(tensors, "layer1.0.conv1.weight");
  const Tensor* second = find(tensors, "layer1.0.conv2.weight");
  if (has_bottlenecks(tensors) && first && second && first->rank() == 4 && second->rank() == 4) {
    if (name == "resnet50" && second->dim(0) == 128 && second->dim(1) == 4) return "resnext50_32x4d";
    if (second->dim(1) < second->dim(0))
      return concat("a ResNeXt of the depth of ", name, ": its convolutions have groups");
    if (first->dim(0) == 128) return concat("wide_", name, "_2");
  }
  return name;
}

}  // namespace faq
