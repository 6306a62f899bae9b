#include "nn/mobilenet.h"

#include "nn/inverted_residual.h"

namespace faq {
namespace {

// Table 2.
struct Stage {
  int expansion;
  int channels;
  int blocks;
  int stride;  ///< of the first block
};
constexpr Stage stages[] = {{1, 16, 1, 1}, {6, 24, 2, 2},  {6, 32, 3, 2}, {6, 64, 4, 2},
                            {6, 96, 3, 1}, {6, 160, 3, 2}, {6, 320, 1, 1}};
constexpr int stem_channels = 32, head_channels = 1280;

class Block final : public InvertedResidual {
 public:
  using InvertedResidual::InvertedResidual;

  void visit(Visitor& v) override {
    int next = 0;
    const auto name = [&] { return "conv." + std::to_string(next++); };
    const auto with_activation = [&](ConvNormAct& conv) {  // a list of its own in torchvision
      const std::string list = name();
      v.child(list + ".0", list + ".1", conv);
    };
    if (expand_) with_activation(*expand_);
    with_activation(depthwise_);
    const std::string conv = name();
    v.child(conv, name(), project_);
  }
};

class MobileNetV2 final : public Model {
 public:
  explicit MobileNetV2(const ModelOptions& options)
      : input_(options.mean, options.std),
        stem_(options.in_channels, stem_channels, 3,
              {.stride = 2, .padding = 1, .activation = Activation::relu6}),
        head_(stages[std::size(stages) - 1].channels, head_channels, 1, {.activation = Activation::relu6}),
        classifier_(head_channels, options.num_classes, 0.2f) {
    int in_channels = stem_channels;
    for (const Stage& stage : stages) {
      for (int block = 0; block < stage.blocks; ++block) {
        blocks_.push_back(
            std::make_unique<Block>(InvertedResidualOptions{.in_channels = in_channels,
                                                            .out_channels = stage.channels,
                                                            .stride = block == 0 ? stage.stride : 1,
                                                            .expansion = stage.expansion}));
        in_channels = stage.channels;
      }
    }
  }

  void visit(Visitor& v) override {
    v.child("input", input_);
    v.child("features.0.0", "features.0.1", stem_);
    std::size_t next = 1;
    for (auto& block : blocks_) v.child("features." + std::to_string(next++), *block);
    const std::string head = "features." + std::to_string(next);
    v.child(head + ".0", head + ".1", head_);
    v.child("avgpool", pool_);
    v.child("classifier.1", classifier_);
  }

  Var forward(const Pass& pass, const Var& images) override {
    Var x = stem_(pass, input_(pass, images));
    for (auto& block : blocks_) x = block->forward(pass, x);
    return classifier_(pass, pool_(pass, head_(pass, x)));
  }

 private:
  Input input_;
  ConvNormAct stem_;
  std::vector<std::unique_ptr<Block>> blocks_;
  ConvNormAct head_;
  GlobalAvgPool pool_;
  Linear classifier_;
};

}  // namespace

std::unique_ptr<Model> make_mobilenet_v2(const ModelOptions& options) {
  return std::make_unique<MobileNetV2>(options);
}

}  // namespace faq
