#include "core/bounded_cache.h"

#include <string>
#include <thread>
#include <vector>

#include "core/error.h"
#include "tests/catch.h"

using namespace faq;

namespace {

struct Key {
  int value;
  std::size_t hash() const { return static_cast<std::size_t>(value % 2); }  // collisions are the rule
  bool operator==(const Key&) const = default;
};

}  // namespace

TEST_CASE("a bounded cache holds the values used last", "[cache]") {
  BoundedCache<Key, std::string> cache(3);
  std::vector<int> made;
  const auto get = [&](int key) {
    return cache.get({key}, [&] {
      made.push_back(key);
      return std::to_string(key);
    });
  };
  for (const int key : {1, 2, 3, 1, 4}) CHECK(*get(key) == std::to_string(key));
  CHECK(made == std::vector{1, 2, 3, 4});
  CHECK(cache.size() == 3);
  get(1);
  get(3);
  CHECK(made == std::vector{1, 2, 3, 4});
  get(2);  // had to go for 4
  CHECK(made == std::vector{1, 2, 3, 4, 2});
  CHECK(cache.size() == 3);
}

TEST_CASE("a value outlives its place in a bounded cache", "[cache]") {
  BoundedCache<Key, std::string> cache(1);
  const auto first = cache.get({1}, [] { return std::string("first"); });
  cache.get({2}, [] { return std::string("second"); });
  CHECK(*first == "first");
  cache.clear();
  CHECK(cache.size() == 0);
  CHECK(*first == "first");
  CHECK(*cache.get({2}, [] { return std::string("again"); }) == "again");
}

TEST_CASE("a bounded cache keeps nothing of what could not be made", "[cache]") {
  BoundedCache<Key, int> cache(2);
  const auto fails = []() -> int { fail(ErrorKind::internal, "on purpose"); };
  CHECK_THROWS_WITH(cache.get({1}, fails), Catch::Contains("on purpose"));
  CHECK(cache.size() == 0);
  CHECK(*cache.get({1}, [] { return 7; }) == 7);
}

TEST_CASE("threads get one value of a bounded cache", "[cache]") {
  BoundedCache<Key, int> cache(8);
  int made = 0;
  std::vector<std::shared_ptr<const int>> values(4);
  std::vector<std::thread> threads;
  for (auto& value : values) threads.emplace_back([&] { value = cache.get({1}, [&] { return ++made; }); });
  for (std::thread& thread : threads) thread.join();
  for (const auto& value : values) CHECK(value == values[0]);
  CHECK(made == 1);
}
