#include "nn/resnet.h"

#include "nn/stages.h"

namespace faq {
namespace {

// The convolutions of one block. The last one adds the shortcut. `width`: the channels of the stage; of the
// 3×3 convolution, where it has one group.
class Block final : public Module {
 public:
  Block(const ResNetRow& row, int in_channels, int width, int stride) {
    const int out_channels = row.bottleneck ? 4 * width : width;
    const auto add = [&](int in, int out, int kernel, int s, int groups = 1) {
      convs_.push_back(std::make_unique<ConvNormAct>(
          in, out, kernel, ConvNormActOptions{.stride = s, .padding = kernel / 2, .groups = groups}));
    };
    if (row.bottleneck) {
      const int inner = width * row.width_per_group / 64 * row.groups;
      add(in_channels, inner, 1, 1);
      add(inner, inner, 3, stride, row.groups);
      add(inner, out_channels, 1, 1);
    } else {
      add(in_channels, width, 3, stride);
      add(width, width, 3, 1);
    }
    if (stride != 1 || in_channels != out_channels) {
      downsample_ = std::make_unique<ConvNormAct>(
          in_channels, out_channels, 1,
          ConvNormActOptions{.stride = stride, .activation = Activation::identity});
    }
  }

  void visit(Visitor& v) override {
    for (std::size_t i = 0; i < convs_.size(); ++i) {
      const std::string number = std::to_string(i + 1);
      v.child("conv" + number, "bn" + number, *convs_[i]);
    }
    if (downsample_) v.child("downsample.0", "downsample.1", *downsample_);
  }

  Var forward(const Pass& pass, const Var& x) {
    const Var shortcut = downsample_ ? (*downsample_)(pass, x) : x;
    Var y = x;
    for (std::size_t i = 0; i + 1 < convs_.size(); ++i) y = (*convs_[i])(pass, y);
    return (*convs_.back())(pass, y, shortcut);
  }

 private:
  std::vector<std::unique_ptr<ConvNormAct>> convs_;
  std::unique_ptr<ConvNormAct> downsample_;
};

class ResNet final : public Model {
 public:
  ResNet(const ResNetRow& row, const ModelOptions& options)
      : input_(options.mean, options.std),
        conv1_(options.in_channels, 64, 7, {.stride = 2, .padding = 3}),
        maxpool_({.kernel = 3, .stride = 2, .padding = 1}),
        fc_(row.bottleneck ? 2048 : 512, options.num_classes) {
    int in_channels = 64;
    for (std::size_t s = 0; s < row.blocks.size(); ++s) {
      const int width = 64 << s;
      stages_.begin_stage();
      for (int block = 0; block < row.blocks[s]; ++block) {
        stages_.add_block(row, in_channels, width, block == 0 && s > 0 ? 2 : 1);
        in_channels = row.bottleneck ? 4 * width : width;
      }
    }
  }

  void visit(Visitor& v) override {
    v.child("input", input_);
    v.child("conv1", "bn1", conv1_);
    v.child("maxpool", maxpool_);
    stages_.visit(v);
    v.child("avgpool", pool_);
    v.child("fc", fc_);
  }

  Var forward(const Pass& pass, const Var& images) override {
    const Var x = maxpool_(pass, conv1_(pass, input_(pass, images)));
    return fc_(pass, pool_(pass, stages_.forward(pass, x)));
  }

 private:
  Input input_;
  ConvNormAct conv1_;
  MaxPool maxpool_;
  Stages<Block> stages_;
  GlobalAvgPool pool_;
  Linear fc_;
};

}  // namespace

const std::vector<ResNetRow>& resnets() {
  static const std::vector<ResNetRow> rows{{"resnet18", false, {2, 2, 2, 2}},
                                           {"resnet34", false, {3, 4, 6, 3}},
                                           {"resnet50", true, {3, 4, 6, 3}},
                                           {"resnet101", true, {3, 4, 23, 3}},
                                           {"resnet152", true, {3, 8, 36, 3}},
                                           {.name = "resnext50_32x4d",
                                            .bottleneck = true,
                                            .blocks = {3, 4, 6, 3},
                                            .source = "Xie et al. 2017, table 1",
                                            .groups = 32,
                                            .width_per_group = 4}};
  return rows;
}

std::unique_ptr<Model> make_resnet(const ResNetRow& row, const ModelOptions& options) {
  return std::make_unique<ResNet>(row, options);
}

}  // namespace faq
