#include "nn/resnet_cifar.h"

#include "nn/stages.h"

namespace faq {
namespace {

class BasicBlock final : public Module {
 public:
  BasicBlock(int in_channels, int channels, int stride)
      : conv1_(in_channels, channels, 3, {.stride = stride, .padding = 1}),
        conv2_(channels, channels, 3, {.padding = 1}),
        shortcut_(in_channels, channels, stride) {}

  void visit(Visitor& v) override {
    v.child("conv1", "bn1", conv1_);
    v.child("conv2", "bn2", conv2_);
    v.child("shortcut", shortcut_);
  }

  Var forward(const Pass& pass, const Var& x) { return conv2_(pass, conv1_(pass, x), shortcut_(pass, x)); }

 private:
  ConvNormAct conv1_;
  ConvNormAct conv2_;
  Shortcut shortcut_;
};

class CifarResNet final : public Model {
 public:
  CifarResNet(const CifarResNetRow& row, const ModelOptions& options)
      : input_(options.mean, options.std),
        conv1_(options.in_channels, 16, 3, {.padding = 1}),
        fc_(64, options.num_classes) {
    int in_channels = 16;
    for (int channels : {16, 32, 64}) {
      stages_.begin_stage();
      for (int block = 0; block < row.blocks; ++block) {
        const int stride = block == 0 && channels != 16 ? 2 : 1;
        stages_.add_block(in_channels, channels, stride);
        in_channels = channels;
      }
    }
  }

  void visit(Visitor& v) override {
    v.child("input", input_);
    v.child("conv1", "bn1", conv1_);
    stages_.visit(v);
    v.child("avgpool", pool_);
    v.child("fc", fc_);
  }

  Var forward(const Pass& pass, const Var& images) override {
    return fc_(pass, pool_(pass, stages_.forward(pass, conv1_(pass, input_(pass, images)))));
  }

 private:
  Input input_;
  ConvNormAct conv1_;
  Stages<BasicBlock> stages_;
  GlobalAvgPool pool_;
  Linear fc_;
};

}  // namespace

const std::vector<CifarResNetRow>& cifar_resnets() {
  static const std::vector<CifarResNetRow> rows{
      {"resnet20", 3}, {"resnet32", 5}, {"resnet44", 7}, {"resnet56", 9}, {"resnet110", 18},
  };
  return rows;
}

std::unique_ptr<Model> make_cifar_resnet(const CifarResNetRow& row, const ModelOptions& options) {
  return std::make_unique<CifarResNet>(row, options);
}

}  // namespace faq
