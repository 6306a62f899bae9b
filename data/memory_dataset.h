// A data set of small images of one size, all in memory.
#pragma once

#include <memory>

#include "data/dataset.h"

namespace faq {

struct MemoryImages {
  int height = 0;
  int width = 0;
  int channels = 0;                  ///< of `pixels`
  std::vector<std::uint8_t> pixels;  ///< N,H,W,C
  std::vector<std::int32_t> labels;
  std::vector<std::string> class_names;
  std::string source;  ///< file or folder, used in messages
};

/// Makes a data set that returns the images with `channels` channels.
std::unique_ptr<Dataset> memory_dataset(MemoryImages images, int channels);

/// Returns "0", "1", ... as class names, for files that have no class names.
std::vector<std::string> numbered_classes(std::int32_t count);

}  // namespace faq
