#include "nn/efficientnet.h"

#include <algorithm>
#include <cmath>

#include "nn/inverted_residual.h"

namespace faq {
namespace {

// Of EfficientNet-B0.
struct Stage {
  int expansion;
  int kernel;
  int channels;
  int blocks;
  int stride;  ///< of the first block
};
constexpr Stage stages[] = {{1, 3, 16, 1, 1},  {6, 3, 24, 2, 2},  {6, 5, 40, 2, 2}, {6, 3, 80, 3, 2},
                            {6, 5, 112, 3, 1}, {6, 5, 192, 4, 2}, {6, 3, 320, 1, 1}};
// Lite networks do not scale these.
constexpr int stem_channels = 32, head_channels = 1280;
constexpr float eps = 1e-3f;

// Channels are multiples of 8 and not less than nine tenths of what was wanted.
int scaled_channels(int channels, double factor) {
  constexpr int multiple = 8;
  const double wanted = channels * factor;
  const int nearest = std::max(multiple, static_cast<int>(wanted + multiple / 2) / multiple * multiple);
  return nearest < 0.9 * wanted ? nearest + multiple : nearest;
}

class Block final : public InvertedResidual {
 public:
  using InvertedResidual::InvertedResidual;

  void visit(Visitor& v) override {
    if (expand_) v.child("conv_pw", "bn1", *expand_);
    v.child("conv_dw", expand_ ? "bn2" : "bn1", depthwise_);
    v.child(expand_ ? "conv_pwl" : "conv_pw", expand_ ? "bn3" : "bn2", project_);
  }
};

class EfficientNet final : public Model {
 public:
  EfficientNet(const EfficientNetRow& row, const ModelOptions& options)
      : input_(options.mean, options.std),
        stem_(options.in_channels, stem_channels, 3, in_between(2)),
        classifier_(head_channels, options.num_classes, row.dropout) {
    int in_channels = stem_channels;
    for (const Stage& stage : stages) {
      const bool is_outer = &stage == std::begin(stages) || &stage == std::end(stages) - 1;
      const int blocks = is_outer ? stage.blocks : static_cast<int>(std::ceil(stage.blocks * row.depth));
      const int channels = scaled_channels(stage.channels, row.width);
      stages_.emplace_back();
      for (int block = 0; block < blocks; ++block) {
        stages_.back().push_back(
            std::make_unique<Block>(InvertedResidualOptions{.in_channels = in_channels,
                                                            .out_channels = channels,
                                                            .kernel = stage.kernel,
                                                            .stride = block == 0 ? stage.stride : 1,
                                                            .expansion = stage.expansion,
                                                            .same_padding = true,
                                                            .eps = eps}));
        in_channels = channels;
      }
    }
    head_ = std::make_unique<ConvNormAct>(in_channels, head_channels, 1, in_between(1));
  }

  void visit(Visitor& v) override {
    v.child("input", input_);
    v.child("conv_stem", "bn1", stem_);
    for (std::size_t s = 0; s < stages_.size(); ++s)
      for (std::size_t b = 0; b < stages_[s].size(); ++b)
        v.child("blocks." + std::to_string(s) + "." + std::to_string(b), *stages_[s][b]);
    v.child("conv_head", "bn2", *head_);
    v.child("avgpool", pool_);
    v.child("classifier", classifier_);
  }

  Var forward(const Pass& pass, const Var& images) override {
    Var x = stem_(pass, input_(pass, images));
    for (auto& stage : stages_)
      for (auto& block : stage) x = block->forward(pass, x);
    return classifier_(pass, pool_(pass, (*head_)(pass, x)));
  }

 private:
  static ConvNormActOptions in_between(int stride) {
    return {.stride = stride, .same_padding = true, .activation = Activation::relu6, .eps = eps};
  }

  Input input_;
  ConvNormAct stem_;
  std::vector<std::vector<std::unique_ptr<Block>>> stages_;
  std::unique_ptr<ConvNormAct> head_;
  GlobalAvgPool pool_;
  Linear classifier_;
};

}  // namespace

const std::vector<EfficientNetRow>& efficientnets() {
  static const std::vector<EfficientNetRow> rows{{"efficientnet_lite0", 224, 1.0, 1.0, 0.2f},
                                                 {"efficientnet_lite1", 240, 1.0, 1.1, 0.2f},
                                                 {"efficientnet_lite2", 260, 1.1, 1.2, 0.3f}};
  return rows;
}

std::unique_ptr<Model> make_efficientnet(const EfficientNetRow& row, const ModelOptions& options) {
  return std::make_unique<EfficientNet>(row, options);
}

}  // namespace faq
