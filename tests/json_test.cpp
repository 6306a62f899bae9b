#include "core/json.h"

#include "tests/testing.h"

using namespace faq;

TEST_CASE("whole numbers of untrusted files", "[json]") {
  const auto read = [](const char* text) { return parse_integer(parse_json(text, "text"), "x", -1, 100); };
  CHECK(read("-1") == -1);
  CHECK(read("100") == 100);
  for (const char* text :
       {"-2", "101", "1.0", "1e1", "\"1\"", "null", "18446744073709551615", "9223372036854775808"}) {
    INFO(text);
    CHECK_THROWS_WITH(read(text), Catch::Contains("expected -1 to 100"));
  }
}

TEST_CASE("JSON of untrusted files", "[json]") {
  struct Row {
    const char* text;
    const char* refused;  // part of the message; null: it is read
  };
  const std::string deep = std::string(40, '[') + std::string(40, ']');
  const Row rows[] = {
      {R"({"lr": 0.1, "epochs": 2})", nullptr},
      {R"({"a": {"x": 1}, "b": {"x": 1}})", nullptr},
      {R"([{"x": 1}, {"x": 2}])", nullptr},
      {R"({"lr": 0.1, "lr": 0.2})", "key \"lr\" twice"},
      {R"({"a": {"x": 1, "y": 2, "x": 1}})", "key \"x\" twice"},
      {R"({"\u006cr": 0.1, "lr": 0.2})", "key \"lr\" twice"},
      {R"([{"x": 1, "x": 2}])", "key \"x\" twice"},
      {R"({"lr": )", "parse error"},
      {deep.c_str(), "nested deeper"},
  };
  for (const Row& row : rows) {
    INFO(row.text);
    if (!row.refused)
      CHECK_NOTHROW(parse_json(row.text, "text"));
    else
      CHECK_THROWS_WITH(parse_json(row.text, "text"),
                        Catch::Contains("text: ") && Catch::Contains(row.refused));
  }
}
