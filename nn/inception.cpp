#include "nn/inception.h"

#include <optional>

namespace faq {
namespace {

constexpr float eps = 1e-3f;

struct Conv {
  const char* name;
  int channels;
  Extent kernel;
  Extent padding = 0;
  int stride = 1;
};

enum class Pooling { none, average, maximum };

// One of the parallel branches of a block.
struct BranchPlan {
  Pooling pooling = Pooling::none;
  std::vector<Conv> chain = {};  // one after the other
  std::vector<Conv> fork = {};   // then side by side
};
using BlockPlan = std::vector<BranchPlan>;

constexpr Extent across{1, 7}, across_padding{0, 3}, down{7, 1}, down_padding{3, 0};

BlockPlan block_a(int pool_channels) {
  return {{.chain = {{"branch1x1", 64, 1}}},
          {.chain = {{"branch5x5_1", 48, 1}, {"branch5x5_2", 64, 5, 2}}},
          {.chain = {{"branch3x3dbl_1", 64, 1}, {"branch3x3dbl_2", 96, 3, 1}, {"branch3x3dbl_3", 96, 3, 1}}},
          {.pooling = Pooling::average, .chain = {{"branch_pool", pool_channels, 1}}}};
}
BlockPlan block_b() {
  return {
      {.chain = {{"branch3x3", 384, 3, 0, 2}}},
      {.chain = {{"branch3x3dbl_1", 64, 1}, {"branch3x3dbl_2", 96, 3, 1}, {"branch3x3dbl_3", 96, 3, 0, 2}}},
      {.pooling = Pooling::maximum}};
}
BlockPlan block_c(int c) {
  return {{.chain = {{"branch1x1", 192, 1}}},
          {.chain = {{"branch7x7_1", c, 1},
                     {"branch7x7_2", c, across, across_padding},
                     {"branch7x7_3", 192, down, down_padding}}},
          {.chain = {{"branch7x7dbl_1", c, 1},
                     {"branch7x7dbl_2", c, down, down_padding},
                     {"branch7x7dbl_3", c, across, across_padding},
                     {"branch7x7dbl_4", c, down, down_padding},
                     {"branch7x7dbl_5", 192, across, across_padding}}},
          {.pooling = Pooling::average, .chain = {{"branch_pool", 192, 1}}}};
}
BlockPlan block_d() {
  return {{.chain = {{"branch3x3_1", 192, 1}, {"branch3x3_2", 320, 3, 0, 2}}},
          {.chain = {{"branch7x7x3_1", 192, 1},
                     {"branch7x7x3_2", 192, across, across_padding},
                     {"branch7x7x3_3", 192, down, down_padding},
                     {"branch7x7x3_4", 192, 3, 0, 2}}},
          {.pooling = Pooling::maximum}};
}
BlockPlan block_e() {
  const Extent row{1, 3}, row_padding{0, 1}, column{3, 1}, column_padding{1, 0};
  return {{.chain = {{"branch1x1", 320, 1}}},
          {.chain = {{"branch3x3_1", 384, 1}},
           .fork = {{"branch3x3_2a", 384, row, row_padding}, {"branch3x3_2b", 384, column, column_padding}}},
          {.chain = {{"branch3x3dbl_1", 448, 1}, {"branch3x3dbl_2", 384, 3, 1}},
           .fork = {{"branch3x3dbl_3a", 384, row, row_padding},
                    {"branch3x3dbl_3b", 384, column, column_padding}}},
          {.pooling = Pooling::average, .chain = {{"branch_pool", 192, 1}}}};
}

// A convolution with torchvision's two names: NAME.conv and NAME.bn.
class NamedConv {
 public:
  NamedConv(int in_channels, const Conv& plan)
      : name_(plan.name),
        channels_(plan.channels),
        unit_(in_channels, plan.channels, plan.kernel,
              {.stride = plan.stride, .padding = plan.padding, .eps = eps}) {}
  void visit(Visitor& v) { v.child(name_ + ".conv", name_ + ".bn", unit_); }
  Var operator()(const Pass& pass, const Var& x) { return unit_(pass, x); }
  int channels() const { return channels_; }

 private:
  std::string name_;
  int channels_;
  ConvNormAct unit_;
};

// A chain of convolutions. Each takes the number of its input channels from the one before.
class Chain {
 public:
  Chain(int in_channels, const std::vector<Conv>& plans) : channels_(in_channels) {
    for (const Conv& plan : plans) {
      convs_.push_back(std::make_unique<NamedConv>(channels_, plan));
      channels_ = plan.channels;
    }
  }
  void visit(Visitor& v) {
    for (auto& conv : convs_) conv->visit(v);
  }
  Var operator()(const Pass& pass, Var x) {
    for (auto& conv : convs_) x = (*conv)(pass, x);
    return x;
  }
  int channels() const { return channels_; }

 private:
  std::vector<std::unique_ptr<NamedConv>> convs_;
  int channels_;
};

class Branch {
 public:
  Branch(int in_channels, const BranchPlan& plan) : chain_(in_channels, plan.chain) {
    if (plan.pooling == Pooling::average)
      average_.emplace(kernels::AvgPoolOptions{.kernel = 3, .stride = 1, .padding = 1});
    if (plan.pooling == Pooling::maximum)
      maximum_.emplace(kernels::MaxPoolOptions{.kernel = 3, .stride = 2, .padding = 0});
    for (const Conv& conv : plan.fork) fork_.push_back(std::make_unique<NamedConv>(chain_.channels(), conv));
  }

  void visit(Visitor& v) {
    if (average_) v.child("avgpool", *average_);
    if (maximum_) v.child("maxpool", *maximum_);
    chain_.visit(v);
    for (auto& conv : fork_) conv->visit(v);
  }

  void forward(const Pass& pass, const Var& x, std::vector<Var>& parts) {
    const Var pooled = average_ ? (*average_)(pass, x) : maximum_ ? (*maximum_)(pass, x) : x;
    const Var y = chain_(pass, pooled);
    if (fork_.empty()) parts.push_back(y);
    for (auto& conv : fork_) parts.push_back((*conv)(pass, y));
  }

  int channels() const {
    int sum = fork_.empty() ? chain_.channels() : 0;
    for (const auto& conv : fork_) sum += conv->channels();
    return sum;
  }

 private:
  std::optional<AvgPool> average_;
  std::optional<MaxPool> maximum_;
  Chain chain_;
  std::vector<std::unique_ptr<NamedConv>> fork_;
};

class Block final : public Module {
 public:
  Block(std::string name, int in_channels, const BlockPlan& plan) : name_(std::move(name)) {
    for (const BranchPlan& branch : plan) branches_.push_back(std::make_unique<Branch>(in_channels, branch));
  }

  void visit(Visitor& v) override {
    for (auto& branch : branches_) branch->visit(v);
    v.child("concat", concat_);
  }

  Var forward(const Pass& pass, const Var& x) {
    std::vector<Var> parts;
    for (auto& branch : branches_) branch->forward(pass, x, parts);
    return concat_(pass, parts);
  }

  const std::string& name() const { return name_; }
  int channels() const {
    int sum = 0;
    for (const auto& branch : branches_) sum += branch->channels();
    return sum;
  }

 private:
  std::string name_;
  std::vector<std::unique_ptr<Branch>> branches_;
  Concat concat_;
};

class AuxiliaryHead final : public Module {
 public:
  AuxiliaryHead(int in_channels, int num_classes)
      : convs_(in_channels, {{"conv0", 128, 1}, {"conv1", 768, 5}}), fc_(768, num_classes) {}

  void visit(Visitor& v) override {
    v.child("pool0", pool0_);
    convs_.visit(v);
    v.child("pool1", pool1_);
    v.child("fc", fc_);
  }

  Var forward(const Pass& pass, const Var& x) {
    return fc_(pass, pool1_(pass, convs_(pass, pool0_(pass, to_float(x)))));
  }

 private:
  AvgPool pool0_{{.kernel = 5, .stride = 3}};
  Chain convs_;
  GlobalAvgPool pool1_;
  Linear fc_;
};

class InceptionV3 final : public Model {
 public:
  explicit InceptionV3(const ModelOptions& options)
      : input_(options.mean, options.std),
        stem1_(options.in_channels,
               {{"Conv2d_1a_3x3", 32, 3, 0, 2}, {"Conv2d_2a_3x3", 32, 3}, {"Conv2d_2b_3x3", 64, 3, 1}}),
        stem2_(stem1_.channels(), {{"Conv2d_3b_1x1", 80, 1}, {"Conv2d_4a_3x3", 192, 3}}),
        auxiliary_(768, options.num_classes),
        fc_(2048, options.num_classes, 0.5f) {
    const struct {
      const char* name;
      BlockPlan plan;
    } blocks[] = {{"Mixed_5b", block_a(32)},  {"Mixed_5c", block_a(64)},  {"Mixed_5d", block_a(64)},
                  {"Mixed_6a", block_b()},    {"Mixed_6b", block_c(128)}, {"Mixed_6c", block_c(160)},
                  {"Mixed_6d", block_c(160)}, {"Mixed_6e", block_c(192)}, {"Mixed_7a", block_d()},
                  {"Mixed_7b", block_e()},    {"Mixed_7c", block_e()}};
    int channels = stem2_.channels();
    for (const auto& block : blocks) {
      blocks_.push_back(std::make_unique<Block>(block.name, channels, block.plan));
      channels = blocks_.back()->channels();
    }
    for_each_unit(auxiliary_, [](const std::string&, Unit& unit) { unit.set_training_only(); });
  }

  void visit(Visitor& v) override {
    v.child("input", input_);
    stem1_.visit(v);
    v.child("maxpool1", maxpool1_);
    stem2_.visit(v);
    v.child("maxpool2", maxpool2_);
    for (auto& block : blocks_) {
      v.child(block->name(), *block);
      if (block->name() == auxiliary_reads) v.child("AuxLogits", auxiliary_);
    }
    v.child("avgpool", pool_);
    v.child("fc", fc_);
  }

  Var forward(const Pass& pass, const Var& images) override { return run(pass, images, nullptr); }

  TrainingLogits forward_training(const Pass& pass, const Var& images) override {
    TrainingLogits result;
    result.logits = run(pass, images, &result.auxiliary);
    result.auxiliary_weight = 0.4f;
    return result;
  }

 private:
  static constexpr const char* auxiliary_reads = "Mixed_6e";

  Var run(const Pass& pass, const Var& images, Var* auxiliary) {
    Var x = maxpool1_(pass, stem1_(pass, input_(pass, images)));
    x = maxpool2_(pass, stem2_(pass, x));
    for (auto& block : blocks_) {
      x = block->forward(pass, x);
      if (auxiliary && block->name() == auxiliary_reads) *auxiliary = auxiliary_.forward(pass, x);
    }
    return fc_(pass, pool_(pass, x));
  }

  Input input_;
  Chain stem1_;
  MaxPool maxpool1_{{.kernel = 3, .stride = 2, .padding = 0}};
  Chain stem2_;
  MaxPool maxpool2_{{.kernel = 3, .stride = 2, .padding = 0}};
  std::vector<std::unique_ptr<Block>> blocks_;
  AuxiliaryHead auxiliary_;
  GlobalAvgPool pool_;
  Linear fc_;
};

}  // namespace

std::unique_ptr<Model> make_inception_v3(const ModelOptions& options) {
  return std::make_unique<InceptionV3>(options);
}

}  // namespace faq
