// The likeliest classes of single images.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "train/open_network.h"

namespace faq {

struct Guess {
  std::int64_t index = 0;  ///< of the class
  double probability = 0;  ///< softmax of the logits
};

struct Prediction {
  std::vector<Guess> guesses;  ///< the likeliest first
  std::string fault;           ///< Image::fault of the file: mostly nothing
};

/// The `count` likeliest classes of an image file (JPEG or PNG) prepared like that, the likeliest first; of
/// equal logits the class with the smaller index is first. `preprocessing`: preprocessing_for(network, …).
/// Throws usage for images that are not square and a count below 1, and as load_image does.
Prediction predict(const Network& network, const Preprocessing& preprocessing, const std::string& image_file,
                   int count = 5);

}  // namespace faq
