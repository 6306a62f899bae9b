#include "nn/densenet.h"

namespace faq {
namespace {

constexpr int bottleneck = 4;  // channels between the two convolutions of a layer = bottleneck · growth

// Each convolution has normalisation and ReLU in front of it. Those of the second convolution are fused to
// the first one.
class DenseLayer final : public Module {
 public:
  DenseLayer(int in_channels, int growth)
      : norm1_(in_channels),
        conv1_(in_channels, bottleneck * growth, 1),
        conv2_(bottleneck * growth, growth, 3,
               {.padding = 1, .activation = Activation::identity, .bias = false}) {}

  void visit(Visitor& v) override {
    v.child("norm1", norm1_);
    v.child("conv1", "norm2", conv1_);
    v.child("conv2", conv2_);
    v.child("concat", concat_);
  }

  Var forward(const Pass& pass, const Var& x) {
    const Var parts[] = {x, conv2_(pass, conv1_(pass, norm1_(pass, x)))};
    return concat_(pass, parts);
  }

 private:
  NormAct norm1_;
  ConvNormAct conv1_;
  ConvAct conv2_;
  Concat concat_;
};

class Transition final : public Module {
 public:
  explicit Transition(int channels)
      : norm_(channels),
        conv_(channels, channels / 2, 1, {.activation = Activation::identity, .bias = false}),
        pool_({.kernel = 2, .stride = 2}) {}

  void visit(Visitor& v) override {
    v.child("norm", norm_);
    v.child("conv", conv_);
    v.child("pool", pool_);
  }

  Var forward(const Pass& pass, const Var& x) { return pool_(pass, conv_(pass, norm_(pass, x))); }

 private:
  NormAct norm_;
  ConvAct conv_;
  AvgPool pool_;
};

// Channels behind the last block.
int features_of(const DenseNetRow& row) {
  int channels = row.stem_channels;
  for (std::size_t b = 0; b < row.layers.size(); ++b) {
    if (b > 0) channels /= 2;
    channels += row.layers[b] * row.growth;
  }
  return channels;
}

class DenseNet final : public Model {
 public:
  DenseNet(const DenseNetRow& row, const ModelOptions& options)
      : input_(options.mean, options.std),
        conv0_(options.in_channels, row.stem_channels, 7, {.stride = 2, .padding = 3}),
        pool0_({.kernel = 3, .stride = 2, .padding = 1}),
        norm5_(features_of(row)),
        classifier_(features_of(row), options.num_classes) {
    int channels = row.stem_channels;
    for (const int count : row.layers) {
      if (!blocks_.empty()) {
        transitions_.push_back(std::make_unique<Transition>(channels));
        channels /= 2;
      }
      blocks_.emplace_back();
      for (int i = 0; i < count; ++i) {
        blocks_.back().push_back(std::make_unique<DenseLayer>(channels, row.growth));
        channels += row.growth;
      }
    }
  }

  void visit(Visitor& v) override {
    v.child("input", input_);
    v.child("features.conv0", "features.norm0", conv0_);
    v.child("features.pool0", pool0_);
    for (std::size_t b = 0; b < blocks_.size(); ++b) {
      const std::string number = std::to_string(b + 1);
      for (std::size_t i = 0; i < blocks_[b].size(); ++i)
        v.child("features.denseblock" + number + ".denselayer" + std::to_string(i + 1), *blocks_[b][i]);
      if (b < transitions_.size()) v.child("features.transition" + number, *transitions_[b]);
    }
    v.child("features.norm5", norm5_);
    v.child("avgpool", pool_);
    v.child("classifier", classifier_);
  }

  Var forward(const Pass& pass, const Var& images) override {
    Var x = pool0_(pass, conv0_(pass, input_(pass, images)));
    for (std::size_t b = 0; b < blocks_.size(); ++b) {
      for (auto& layer : blocks_[b]) x = layer->forward(pass, x);
      if (b < transitions_.size()) x = transitions_[b]->forward(pass, x);
    }
    return classifier_(pass, pool_(pass, norm5_(pass, x)));
  }

 private:
  Input input_;
  ConvNormAct conv0_;
  MaxPool pool0_;
  std::vector<std::vector<std::unique_ptr<DenseLayer>>> blocks_;
  std::vector<std::unique_ptr<Transition>> transitions_;
  NormAct norm5_;
  GlobalAvgPool pool_;
  Linear classifier_;
};

}  // namespace

const std::vector<DenseNetRow>& densenets() {
  static const std::vector<DenseNetRow> rows{{"densenet121", 32, 64, {6, 12, 24, 16}},
                                             {"densenet161", 48, 96, {6, 12, 36, 24}},
                                             {"densenet169", 32, 64, {6, 12, 32, 32}},
                                             {"densenet201", 32, 64, {6, 12, 48, 32}}};
  return rows;
}

std::unique_ptr<Model> make_densenet(const DenseNetRow& row, const ModelOptions& options) {
  return std::make_unique<DenseNet>(row, options);
}

}  // namespace faq
