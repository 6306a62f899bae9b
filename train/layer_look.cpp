#include "train/layer_look.h"

#include <algorithm>
#include <string>
#include <vector>

#include "nn/unit_watcher.h"

namespace faq {
namespace {

// Spread evenly, because images of a class may lie together. One that cannot be used is left out.
Tensor some_images(const Dataset& dataset, const TransformOptions& transform) {
  constexpr std::int64_t most = 8;
  std::vector<std::uint8_t> pixels;
  std::int64_t images = 0;
  for (std::int64_t i = 0; i < std::min(most, dataset.size()); ++i) {
    try {
      const Image image = transform_for_evaluation(
          dataset.image(i * dataset.size() / std::min(most, dataset.size())), transform);
      pixels.insert(pixels.end(), image.pixels.begin(), image.pixels.end());
      ++images;
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::bad_data) throw;
    }
  }
  if (images == 0) return {};
  return Tensor::from<std::uint8_t>({images, transform.crop, transform.crop, dataset.channels()}, pixels);
}

}  // namespace

void LayerLook::look(Model& model, const std::function<void(const LayerValues&)>& see) {
  if (!images_) images_ = some_images(dataset_, transform_);
  if (!images_) return;
  UnitWatcher watcher(model, [&](const std::string& name, Unit& unit, const Tensor& output) {
    const Var* weights = unit.weights();
    see({name, weights != nullptr ? weights->value() : Tensor(), output});
  });
  const NoGrad no_grad;
  model.forward({.observer = &watcher}, Var(images_));
}

}  // namespace faq
