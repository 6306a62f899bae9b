// The options that say which network a program opens.
#pragma once

#include "tools/cli.h"
#include "train/open_network.h"

namespace faq::cli {

/// What the command line leaves open comes from the file; what it gives must agree with the file. `options`:
/// as the command line has them, with the weights.
NetworkChoice network_choice(const cxxopts::ParseResult& parsed, const TrainOptions& options);

}  // namespace faq::cli
