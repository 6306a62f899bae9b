#include "core/grad_format.h"

#include <sstream>

#include "tests/catch.h"

using namespace faq;

TEST_CASE("formats of gradients", "[ops]") {
  struct Row {
    GradFormat format;
    DType dtype;
    const char* text;
  };
  const Row rows[] = {{GradFormat::f32, DType::f32, "f32"},
                      {GradFormat::bf16, DType::bf16, "bf16"},
                      {GradFormat::s8, DType::bf16, "s8"},
                      {GradFormat::s8_data, DType::bf16, "s8-data"}};
  for (const Row& row : rows) {
    CHECK(row.format.dtype() == row.dtype);
    CHECK(row.format.is_integer() == (std::string(row.text).substr(0, 2) == "s8"));
    std::ostringstream text;
    text << row.format;
    CHECK(text.str() == row.text);
    CHECK(name_of(row.format) == std::string(row.text));
    for (const Row& other : rows) {
      CHECK((row.format == other.format) == (&row == &other));
      CHECK((row.format.hash() == other.format.hash()) == (&row == &other));
    }
  }
  CHECK(GradFormat() == GradFormat::f32);
}
