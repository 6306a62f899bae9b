// Two networks on the same images: where they part.
#pragma once

#include <string>
#include <vector>

#include "data/loader.h"
#include "train/open_network.h"
#include "train/run_listener.h"

namespace faq {

struct Comparison {
  std::int64_t images = 0;
  std::int64_t agreeing = 0;  ///< images both predict the same class of
  /// ‖a − b‖ / ‖b‖ of the numbers a layer of both hands on, over the first batch.
  struct Layer {
    std::string name;
    double difference = 0;
  };
  std::vector<Layer> layers;    ///< that both have, in the order of the first
  std::string first_diverging;  ///< the first that differs in a bit of these numbers; empty: none
};

Comparison compare(const Network& a, const Network& b, Loader& loader, RunListener& listener);

}  // namespace faq
