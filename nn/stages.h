// The part that residual networks share.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "nn/module.h"

namespace faq {

/// Stages of blocks, one after the other. Names in checkpoints: "layer1.0", "layer1.1", … "layer2.0", …
template <class Block>
class Stages {
 public:
  void begin_stage() { stages_.emplace_back(); }
  template <class... Arguments>
  void add_block(Arguments... arguments) {
    stages_.back().push_back(std::make_unique<Block>(arguments...));
  }

  void visit(Visitor& v) {
    for (std::size_t s = 0; s < stages_.size(); ++s) {
      for (std::size_t b = 0; b < stages_[s].size(); ++b)
        v.child("layer" + std::to_string(s + 1) + "." + std::to_string(b), *stages_[s][b]);
    }
  }

  Var forward(const Pass& pass, Var x) {
    for (auto& stage : stages_) {
      for (auto& block : stage) x = block->forward(pass, x);
    }
    return x;
  }

 private:
  std::vector<std::vector<std::unique_ptr<Block>>> stages_;
};

}  // namespace faq
