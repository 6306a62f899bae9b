#include "nn/vgg.h"

#include <algorithm>

namespace faq {
namespace {

constexpr int hidden = 4096;
constexpr float dropout_probability = 0.5f;

std::string numbered(const char* name, int index) { return std::string(name) + "." + std::to_string(index); }

// A convolution in torchvision's sequence of layers, and the pooling after it.
struct Stage {
  std::unique_ptr<ConvUnit> conv;
  int index;  // index in the sequence; a normalisation is the next layer
  std::unique_ptr<MaxPool> pool = {};
  int pool_index = 0;
};

std::unique_ptr<ConvUnit> make_conv(bool batch_norm, int in_channels, const PlainConv& conv) {
  if (batch_norm)
    return std::make_unique<ConvNormAct>(
        in_channels, conv.channels, conv.kernel,
        ConvNormActOptions{.stride = conv.stride, .padding = conv.padding, .bias = true});
  return std::make_unique<ConvAct>(in_channels, conv.channels, conv.kernel,
                                   ConvActOptions{.stride = conv.stride, .padding = conv.padding});
}

class Vgg final : public Model {
 public:
  Vgg(const VggRow& row, const ModelOptions& options)
      : input_(options.mean, options.std),
        avgpool_({.output = row.features}),
        dropouts_{Dropout(dropout_probability, 0), Dropout(dropout_probability, 1)},
        first_index_(row.dropout_in_front ? 1 : 0),
        fc1_(row.convs.back().channels, hidden, row.features, {.as_matrix = true}),
        fc2_(hidden, hidden, 1, {.as_matrix = true}),
        fc3_(hidden, options.num_classes),
        dropout_in_front_(row.dropout_in_front) {
    int in_channels = options.in_channels;
    int index = 0;
    for (const PlainConv& conv : row.convs) {
      Stage stage{.conv = make_conv(row.batch_norm, in_channels, conv), .index = index};
      index += row.batch_norm ? 3 : 2;  // convolution, normalisation, ReLU
      if (conv.pool) {
        stage.pool = std::make_unique<MaxPool>(
            kernels::MaxPoolOptions{.kernel = row.pool_kernel, .stride = 2, .padding = 0});
        stage.pool_index = index++;
      }
      stages_.push_back(std::move(stage));
      in_channels = conv.channels;
    }
  }

  void visit(Visitor& v) override {
    v.child("input", input_);
    for (Stage& stage : stages_) {
      v.child(numbered("features", stage.index), numbered("features", stage.index + 1), *stage.conv);
      if (stage.pool) v.child(numbered("features", stage.pool_index), *stage.pool);
    }
    v.child("avgpool", avgpool_);
    // Linear, ReLU and dropout count as three layers, in either order.
    const int dropout = dropout_in_front_ ? -1 : 2;
    v.child(numbered("classifier", first_index_), fc1_);
    v.child(numbered("classifier", first_index_ + dropout), dropouts_[0]);
    v.child(numbered("classifier", first_index_ + 3), fc2_);
    v.child(numbered("classifier", first_index_ + 3 + dropout), dropouts_[1]);
    v.child("classifier.6", fc3_);
  }

  Var forward(const Pass& pass, const Var& images) override {
    Var x = input_(pass, images);
    for (Stage& stage : stages_) {
      x = (*stage.conv)(pass, x);
      if (stage.pool) x = (*stage.pool)(pass, x);
    }
    x = avgpool_(pass, x);
    if (dropout_in_front_) {
      x = fc1_(pass, dropouts_[0](pass, x));
      x = fc2_(pass, dropouts_[1](pass, x));
    } else {
      x = dropouts_[0](pass, fc1_(pass, x));
      x = dropouts_[1](pass, fc2_(pass, x));
    }
    return fc3_(pass, x);
  }

 private:
  Input input_;
  std::vector<Stage> stages_;
  AvgPool avgpool_;
  Dropout dropouts_[2];
  int first_index_;
  ConvAct fc1_;
  ConvAct fc2_;
  Linear fc3_;
  bool dropout_in_front_;
};

// Five stages of 64, 128, 256, 512, 512 channels with that many convolutions each, and a pooling after each
// stage.
VggRow vgg(const char* name, std::vector<int> convs_per_stage) {
  VggRow row{.name = name,
             .source = "Simonyan and Zisserman 2015, table 1",
             .convs = {},
             .batch_norm = true,
             .pool_kernel = 2,
             .features = 7,
             .dropout_in_front = false};
  int channels = 64;
  for (std::size_t s = 0; s < convs_per_stage.size(); ++s) {
    for (int i = 1; i <= convs_per_stage[s]; ++i)
      row.convs.push_back({.channels = channels, .pool = i == convs_per_stage[s]});
    channels = std::min(2 * channels, 512);
  }
  return row;
}

}  // namespace

const std::vector<VggRow>& vggs() {
  static const std::vector<VggRow> rows{
      vgg("vgg11_bn", {1, 1, 2, 2, 2}),
      vgg("vgg13_bn", {2, 2, 2, 2, 2}),
      vgg("vgg16_bn", {2, 2, 3, 3, 3}),
      vgg("vgg19_bn", {2, 2, 4, 4, 4}),
      {.name = "alexnet",
       .source = "Krizhevsky 2014, section 5",
       .convs = {{.channels = 64, .kernel = 11, .stride = 4, .padding = 2, .pool = true},
                 {.channels = 192, .kernel = 5, .padding = 2, .pool = true},
                 {.channels = 384},
                 {.channels = 256},
                 {.channels = 256, .pool = true}},
       .batch_norm = false,
       .pool_kernel = 3,
       .features = 6,
       .dropout_in_front = true}};
  return rows;
}

std::unique_ptr<Model> make_vgg(const VggRow& row, const ModelOptions& options) {
  return std::make_unique<Vgg>(row, options);
}

}  // namespace faq
