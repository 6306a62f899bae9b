#include "train/class_match.h"

#include "nn/load_weights.h"
#include "tests/catch.h"
#include "tests/reference.h"

using namespace faq;

TEST_CASE("classes of weights and data are matched by name", "[classes]") {
  using Names = std::vector<std::string>;
  struct Row {
    const char* what;
    Names of_weights, of_data;
    ClassMatch::Kind kind;
    std::vector<int> order = {};
  };
  const Row rows[] = {
      {"the same", {"a", "b"}, {"a", "b"}, ClassMatch::same},
      {"weights without names", {}, {"a", "b"}, ClassMatch::same},
      {"data without names", {"a", "b"}, {}, ClassMatch::same},
      {"another order", {"a", "b", "c"}, {"c", "a", "b"}, ClassMatch::permuted, {2, 0, 1}},
      {"numbers of folders",
       {"0", "1", "10", "11", "2"},
       {"0", "1", "2", "10", "11"},
       ClassMatch::permuted,
       {0, 1, 4, 2, 3}},
      {"other names", {"a", "b"}, {"a", "c"}, ClassMatch::others},
      {"fewer", {"a", "b", "c"}, {"a", "b"}, ClassMatch::others},
      {"more", {"a", "b"}, {"a", "b", "c"}, ClassMatch::others},
      {"numbers for names", {"0", "1"}, {"a", "b"}, ClassMatch::same},
      {"names for numbers", {"a", "b"}, {"0", "1"}, ClassMatch::same},
      {"more numbers than names", {"0", "1", "2"}, {"a", "b"}, ClassMatch::others},
      {"numbers in another order are names", {"1", "0"}, {"a", "b"}, ClassMatch::others},
      {"a name twice", {"a", "a"}, {"a", "b"}, ClassMatch::others},
      {"a name twice in the data", {"a", "b"}, {"a", "a"}, ClassMatch::others},
  };
  for (const Row& row : rows) {
    INFO(row.what);
    const ClassMatch match = match_classes(row.of_weights, row.of_data);
    CHECK(match.kind == row.kind);
    CHECK(match.order == row.order);
  }
}

TEST_CASE("classes among others", "[classes]") {
  CHECK(are_among({"b"}, {"a", "b"}));
  CHECK(are_among({}, {}));
  CHECK_FALSE(are_among({"a", "c"}, {"a", "b"}));
}

TEST_CASE("a classifier's rows follow the names of its classes", "[classes]") {
  const auto model = make_model("resnet20", {.num_classes = 3});
  initialize(*model, 1);
  NamedTensors file;
  export_weights(*model, file);
  file.metadata["classes"] = R"(["ant", "bee", "cat"])";
  const ModelInfo& info = model_info("resnet20");
  std::vector<std::string> notes;
  const auto row_of = [](const NamedTensors& from, std::int64_t i) {
    return reference::numbers(from.find("fc.weight")->rows(i, i + 1));
  };

  const NamedTensors same = for_classes(file, info, {"ant", "bee", "cat"}, "w", notes);
  CHECK(notes.empty());
  CHECK(row_of(same, 0) == row_of(file, 0));

  const NamedTensors numbered = for_classes(file, info, {"0", "1", "2"}, "w", notes);
  REQUIRE(notes.size() == 1);
  CHECK(notes[0] ==
        "warning: classes: w has ant, bee, cat, the data have 0, 1, 2: numbers and names, taken to be in "
        "the same order");
  CHECK(row_of(numbered, 0) == row_of(file, 0));
  notes.clear();

  const NamedTensors turned = for_classes(file, info, {"cat", "bee", "ant"}, "w", notes);
  REQUIRE(notes.size() == 1);
  CHECK(notes[0].find("another order") != std::string::npos);
  CHECK(notes[0].find("2 of 3") != std::string::npos);
  for (std::int64_t i = 0; i < 3; ++i) {
    CHECK(row_of(turned, i) == row_of(file, 2 - i));
    CHECK(reference::numbers(*turned.find("fc.bias"))[static_cast<std::size_t>(i)] ==
          reference::numbers(*file.find("fc.bias"))[static_cast<std::size_t>(2 - i)]);
  }
  CHECK(reference::same_bytes(*turned.find("conv1.weight"), *file.find("conv1.weight")));

  const NamedTensors others = for_classes(file, info, {"dog", "bee", "ant"}, "w", notes);
  REQUIRE(notes.size() == 2);
  CHECK(notes[1].starts_with("warning: classes: w has others (ant, bee, cat) than the data (dog, bee, ant)"));
  CHECK(others.find("fc.weight") == nullptr);
  CHECK(others.tensors.size() == file.tensors.size() - 2);
}
