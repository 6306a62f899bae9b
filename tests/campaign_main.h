// The main function of a campaign's program.
#pragma once

#include <cstdio>
#include <exception>

namespace faq::testing {

/// Runs a campaign with the options that `options_of` reads. Returns 0, 1 for findings, 64 for what ended it.
template <class Campaign, class OptionsOf>
int campaign_main(int argc, char** argv, OptionsOf options_of) {
  try {
    Campaign campaign(options_of(argc, argv));
    campaign.run();
    return campaign.report();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 64;
  }
}

}  // namespace faq::testing
