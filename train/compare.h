// Compares two networks on the same images and finds the layer where they begin to differ.
#pragma once

#include <string>
#include <vector>

#include "data/loader.h"
#include "train/open_network.h"
#include "train/run_listener.h"

namespace faq {

struct Comparison {
  std::int64_t images = 0;
  std::int64_t agreeing = 0;  ///< images for which both predict the same class
  /// ‖a − b‖ / ‖b‖ of the output of a layer that both have, over the first batch.
  struct Layer {
    std::string name;
    double difference = 0;
  };
  std::vector<Layer> layers;    ///< layers that both have, in the order of the first network
  std::string first_diverging;  ///< the first layer with a difference in any bit; empty: none
};

Comparison compare(const Network& a, const Network& b, Loader& loader, RunListener& listener);

}  // namespace faq
