#include "tools/network_choice.h"

namespace faq::cli {

NetworkChoice network_choice(const cxxopts::ParseResult& parsed, const TrainOptions& options) {
  return {.weights = options.weights,
          .model = parsed.count("model") ? options.model : "",
          .num_classes = options.num_classes,
          .in_channels = options.in_channels,
          .mean = options.mean,
          .std = options.std,
          .average = is_on(parsed, "use-ema"),
          .ignore_extra = options.ignore_extra,
          .engine = options.engine};
}

}  // namespace faq::cli
