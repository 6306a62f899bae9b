// libFuzzer over one of the parsers (tests/parsers.h), which FAQ_PARSER names. A corpus folder that is given
// receives the parser's seeds first.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "tests/parsers.h"

namespace {

const faq::testing::Parser* chosen = nullptr;

}  // namespace

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  const char* name = std::getenv("FAQ_PARSER");
  for (const faq::testing::Parser& parser : faq::testing::parsers())
    if (name && name == std::string(parser.name)) chosen = &parser;
  if (!chosen) {
    std::fprintf(stderr, "FAQ_PARSER is to be one of:");
    for (const faq::testing::Parser& parser : faq::testing::parsers())
      std::fprintf(stderr, " %s", parser.name);
    std::fprintf(stderr, "\n");
    std::exit(64);
  }
  for (int i = 1; i < *argc; ++i) {
    const std::filesystem::path corpus = (*argv)[i];
    if (!std::filesystem::is_directory(corpus)) continue;
    int index = 0;
    for (const std::string& seed : chosen->seeds())
      std::ofstream(corpus / ("seed-" + std::to_string(index++)), std::ios::binary) << seed;
    break;
  }
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  faq::testing::refuses(*chosen, {reinterpret_cast<const char*>(data), size});
  return 0;
}
