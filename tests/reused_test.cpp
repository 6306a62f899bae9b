// What is kept once it has been asked for twice.
#include "core/reused.h"

#include <stdexcept>

#include "tests/testing.h"

using namespace faq;

namespace {

// Counts what was made and what is alive.
struct Counted {
  explicit Counted(int key_) : key(key_) { ++alive; }
  ~Counted() { --alive; }
  int key;
  static inline int alive = 0;
};

struct Asked {
  Reused<int, Counted> values;
  int made = 0;
  std::shared_ptr<Counted> operator()(int key) {
    return values.get(key, [&] {
      ++made;
      return std::make_shared<Counted>(key);
    });
  }
};

}  // namespace

TEST_CASE("a value is kept from the second request for its key on", "[reused]") {
  struct Row {
    const char* what;
    std::vector<int> keys;  // each value is dropped by the caller at once
    int made, alive;
  };
  const Row rows[] = {
      {"nothing", {}, 0, 0},
      {"once each", {1, 2, 3}, 3, 0},
      {"twice", {1, 1}, 2, 1},
      {"three times", {1, 1, 1}, 2, 1},
      {"the next key is kept at once", {1, 1, 2}, 3, 1},
      {"and not made again", {1, 1, 2, 2}, 3, 1},
      {"the one after a key asked for once is not", {1, 1, 2, 3}, 4, 0},
      {"a key that comes back is a new one", {1, 2, 1}, 3, 0},
  };
  for (const Row& row : rows) {
    INFO(row.what);
    {
      Asked asked;
      for (const int key : row.keys) CHECK(asked(key)->key == key);
      CHECK(asked.made == row.made);
      CHECK(Counted::alive == row.alive);
      asked.values.release();
      CHECK(Counted::alive == 0);
      asked(row.keys.empty() ? 0 : row.keys.back());
      CHECK(asked.made == row.made + 1);
    }
    CHECK(Counted::alive == 0);
  }
}

TEST_CASE("what somebody holds is shared", "[reused]") {
  Asked asked;
  const auto first = asked(1);
  CHECK(asked(1) == first);
  CHECK(asked.made == 1);
}

TEST_CASE("what could not be made is asked for again", "[reused]") {
  Reused<int, Counted> values;
  const auto failing = []() -> std::shared_ptr<Counted> { throw std::runtime_error("no memory"); };
  CHECK_THROWS(values.get(1, failing));
  CHECK(values.get(1, [] { return std::make_shared<Counted>(1); })->key == 1);
  CHECK_THROWS(values.get(2, failing));
  CHECK(values.get(2, [] { return std::make_shared<Counted>(2); })->key == 2);
}
