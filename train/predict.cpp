#include "train/predict.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <numeric>
#include <system_error>

#include "core/kernels/loss.h"
#include "data/decode.h"
#include "data/names.h"
#include "data/transforms.h"

namespace faq {

Prediction predict(const Network& network, const Preprocessing& seen, const std::string& image_file,
                   int count) {
  check(seen.height == seen.width && seen.height > 0, ErrorKind::usage, "predict: images of ", seen.height,
        "×", seen.width, ", expected a square");
  check(count > 0, ErrorKind::usage, "predict: ", count, " classes, expected at least 1");
  const Image loaded = load_image(image_file, seen.channels);
  const Image image =
      transform_for_evaluation(loaded, {Augmentation::none, seen.height, seen.resize, seen.interpolation});
  const Tensor logits =
      network.forward(Tensor::from<std::uint8_t>({1, seen.height, seen.width, seen.channels}, image.pixels));
  const auto z = logits.span<float>();
  std::vector<std::size_t> ranked(z.size());
  std::iota(ranked.begin(), ranked.end(), std::size_t{0});
  std::ranges::stable_sort(ranked, [&](std::size_t i, std::size_t k) { return z[i] > z[k]; });
  // The loss of a class is −log of its probability; others differ from it as their logits do.
  const auto likeliest = static_cast<std::int32_t>(ranked[0]);
  const double loss = kernels::cross_entropy(logits, {&likeliest, 1}, 0.0f).loss;
  std::vector<Guess> guesses;
  for (std::size_t i = 0; i < std::min<std::size_t>(static_cast<std::size_t>(count), ranked.size()); ++i)
    guesses.push_back({static_cast<std::int64_t>(ranked[i]),
                       std::exp(static_cast<double>(z[ranked[i]]) - z[ranked[0]] - loss)});
  return {std::move(guesses), loaded.fault};
}

std::vector<std::string> images_in(const std::string& folder) {
  namespace fs = std::filesystem;
  std::vector<std::string> files;
  std::error_code error;
  for (fs::recursive_directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    const std::string path = entry->path().lexically_relative(folder).string();
    std::error_code none;
    if (!is_clutter(path) && named_as(path) == NamedAs::image && entry->is_regular_file(none))
      files.push_back(entry->path().string());
  }
  check(!error, ErrorKind::missing_input, "images in ", folder, ": ", error.message());
  check(!files.empty(), ErrorKind::bad_data, "images in ", folder, ": no JPEG or PNG");
  std::ranges::sort(files);
  return files;
}

}  // namespace faq
