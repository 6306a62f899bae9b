#include "core/text.h"

#include "tests/catch.h"

using namespace faq;

TEST_CASE("parts are joined, empty ones too, and split again", "[text]") {
  struct Row {
    std::vector<std::string> parts;
    std::string joined;
  };
  const Row rows[] = {{{"a"}, "a"},      {{"a", "b", "c"}, "a,b,c"}, {{"", "a"}, ",a"},
                      {{"a", ""}, "a,"}, {{"", "", ""}, ",,"},       {{""}, ""}};
  for (const Row& row : rows) {
    INFO(row.joined);
    CHECK(join(row.parts, ",") == row.joined);
    CHECK(split(row.joined) == row.parts);
  }
  CHECK(join({}) == "");
  CHECK(join({"a", "b"}) == "a, b");
}

TEST_CASE("the nearest name", "[text]") {
  CHECK(nearest("resnet21", {"resnet110", "resnet20", "vgg11_bn"}) == "resnet20");
  CHECK(nearest("anything", {}) == "");
}
