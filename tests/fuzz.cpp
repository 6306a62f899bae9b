// libFuzzer over one of the parsers (tests/parsers.h), which FAQ_PARSER names, or the name of the program:
// faq_fuzz_PARSER. A corpus folder that is given receives the parser's seeds first.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "tests/parsers.h"

namespace {

const faq::testing::Parser* chosen = nullptr;

}  // namespace

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  const char* variable = std::getenv("FAQ_PARSER");
  std::string name = variable ? variable : std::filesystem::path((*argv)[0]).filename().string();
  if (const std::string program = "faq_fuzz_"; name.starts_with(program)) name.erase(0, program.size());
  for (const faq::testing::Parser& parser : faq::testing::parsers())
    if (name == parser.name) chosen = &parser;
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
