// Damaged files, by the thousand, and those that once did harm.
#include "tests/parsers.h"

#include "core/rng.h"
#include "tests/testing.h"

using namespace faq;
using namespace faq::testing;

namespace {

// What happens to files, and what a fuzzer does to them.
std::string damaged(const std::string& seed, Random& random) {
  std::string bytes = seed;
  const auto below = [&](std::size_t n) -> std::size_t {
    return n == 0 ? 0 : random.below(static_cast<std::uint32_t>(n));
  };
  for (std::size_t changes = 1 + below(3); changes > 0; --changes) {
    const std::size_t at = below(bytes.size());
    switch (below(6)) {
      case 0:
        bytes.resize(at);
        break;
      case 1:
        if (!bytes.empty()) bytes[at] ^= static_cast<char>(1 << below(8));
        break;
      case 2:
        if (!bytes.empty()) bytes[at] = static_cast<char>(below(2) ? 0xff : 0);
        break;
      case 3:
        bytes.insert(at, bytes.substr(below(bytes.size()), below(40)));
        break;
      case 4:
        bytes.erase(at, below(40));
        break;
      case 5:  // a number in a text
        for (std::size_t i = at; i < bytes.size(); ++i)
          if (bytes[i] >= '0' && bytes[i] <= '9') {
            constexpr const char* numbers[] = {"-1",   "0", "4294967297", "1e300", "9223372036854775808",
                                               "null", "[]"};
            bytes.replace(i, 1, numbers[below(std::size(numbers))]);
            break;
          }
        break;
    }
  }
  return bytes;
}

}  // namespace

TEST_CASE("damaged files are read or refused, and nothing else happens", "[parsers]") {
  for (const Parser& parser : parsers()) {
    INFO(parser.name);
    int refused = 0, index = 0;
    const std::vector<std::string> seeds = parser.seeds();
    REQUIRE(!seeds.empty());
    const int rounds = 3000 / static_cast<int>(seeds.size());
    for (const std::string& seed : seeds) {
      INFO("seed " << index);
      CHECK_FALSE(refuses(parser, seed));
      for (int round = 0; round < rounds; ++round) {
        INFO("round " << round);
        Random random(static_cast<std::uint64_t>(round), RandomStream::test,
                      static_cast<std::uint64_t>(index));
        refused += refuses(parser, damaged(seed, random));
      }
      ++index;
    }
    CHECK(refused > 300);
  }
}

TEST_CASE("files that once did harm", "[parsers]") {
  // FAQ_TEST_FIXTURES/fuzz/PARSER/*: what a fuzzer found, kept.
  int files = 0;
  for (const Parser& parser : parsers()) {
    const fs::path folder = fs::path(FAQ_TEST_FIXTURES) / "fuzz" / parser.name;
    if (!fs::exists(folder)) continue;
    for (const auto& entry : fs::directory_iterator(folder)) {
      INFO(entry.path());
      CHECK(refuses(parser, file_bytes(entry.path())));
      ++files;
    }
  }
  CHECK(files > 0);
}
