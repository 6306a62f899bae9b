#include "train/ranks/shard_tree.h"

#include <string>

#include "tests/catch.h"

using namespace faq;

namespace {

// The order of the additions as text, e.g. "((0+1)+2)".
std::string sum_of(int count) {
  NodeStack<std::string> stack;
  for (int i = 0; i < count; ++i)
    stack.push({i, i + 1}, std::to_string(i), count,
               [](std::string& left, const std::string& right) { left = "(" + left + "+" + right + ")"; });
  REQUIRE(stack.nodes().size() == 1);
  CHECK(stack.nodes().front().shards == ShardRange{0, count});
  return stack.nodes().front().sum;
}

}  // namespace

TEST_CASE("shards are added by a tree", "[ranks]") {
  CHECK(sum_of(1) == "0");
  CHECK(sum_of(2) == "(0+1)");
  CHECK(sum_of(3) == "((0+1)+2)");
  CHECK(sum_of(4) == "((0+1)+(2+3))");
  CHECK(sum_of(6) == "(((0+1)+(2+3))+(4+5))");
  CHECK(sum_of(7) == "(((0+1)+(2+3))+((4+5)+6))");
}

TEST_CASE("the tree does not depend on who adds", "[ranks]") {
  for (int shards = 1; shards <= 24; ++shards) {
    for (int present = 1; present <= shards; ++present) {
      const std::string whole = sum_of(present);
      for (int ranks = 1; ranks <= shards; ++ranks) {
        if (shards % ranks != 0) continue;
        INFO(present << " of " << shards << " shards on " << ranks << " ranks");
        NodeStack<std::string> all;
        const auto add = [](std::string& left, const std::string& right) {
          left = "(" + left + "+" + right + ")";
        };
        int next = 0;
        for (int rank = 0; rank < ranks; ++rank) {
          const ShardRange own = shards_of_rank(shards, present, rank, ranks);
          CHECK((own.empty() || own.begin == next));
          NodeStack<std::string> local;
          for (int i = own.begin; i < own.end; ++i) local.push({i, i + 1}, std::to_string(i), present, add);
          std::vector<ShardRange> made;
          for (auto& node : local.nodes()) {
            made.push_back(node.shards);
            all.push(node.shards, node.sum, present, add);
          }
          REQUIRE(made == nodes_in(own, present));
          if (!own.empty()) next = own.end;
        }
        REQUIRE(all.nodes().size() == 1);
        CHECK(all.nodes().front().sum == whole);
      }
    }
  }
}

TEST_CASE("the halves of a node", "[ranks]") {
  struct Row {
    ShardRange left, right;
    int count;
    bool halves;
  };
  const Row rows[] = {
      {{0, 1}, {1, 2}, 8, true},  {{1, 2}, {2, 3}, 8, false}, {{0, 2}, {2, 3}, 8, false},
      {{0, 2}, {2, 3}, 3, true},  {{0, 2}, {2, 4}, 8, true},  {{2, 4}, {4, 6}, 8, false},
      {{0, 4}, {4, 7}, 7, true},  {{0, 3}, {3, 6}, 6, false}, {{4, 6}, {6, 7}, 7, true},
      {{0, 4}, {4, 6}, 8, false},
  };
  for (const Row& row : rows) {
    INFO(row.left.begin << " to " << row.left.end << ", " << row.right.end << " of " << row.count);
    CHECK(are_halves(row.left, row.right, row.count) == row.halves);
  }
}
