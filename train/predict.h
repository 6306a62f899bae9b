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

/// The JPEG and PNG files in a folder and the folders in it, by their names, in the order of their paths.
/// What file systems and desktops leave behind is passed over. Throws missing_input for a folder that cannot
/// be listed, bad_data when there are none.
std::vector<std::string> images_in(const std::string& folder);

}  // namespace faq
