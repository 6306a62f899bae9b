// Shows listeners the layers of a network on a few images (EpochDone::look).
#pragma once

#include <functional>

#include "data/dataset.h"
#include "data/transforms.h"
#include "nn/models.h"
#include "train/run_listener.h"

namespace faq {

class LayerLook {
 public:
  /// The images are some of `dataset`, which must live as long; they are read when the first look wants them.
  LayerLook(const Dataset& dataset, const TransformOptions& transform)
      : dataset_(dataset), transform_(transform) {}

  /// Takes the images through the model and calls `see` with each layer, in order. Calls nothing if no image
  /// can be used.
  void look(Model& model, const std::function<void(const LayerValues&)>& see);

 private:
  const Dataset& dataset_;
  TransformOptions transform_;
  Tensor images_;
};

}  // namespace faq
