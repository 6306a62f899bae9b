#include "train/ranks/communicator.h"

#include <atomic>
#include <cmath>
#include <cstring>
#include <exception>
#include <limits>
#include <numeric>
#include <set>
#include <thread>

#include "tests/catch.h"
#include "tests/fake_transport.h"
#include "train/ranks/rank_communicator.h"

using namespace faq;
using namespace faq::testing;

namespace {

using namespace std::chrono_literals;

// What the ranks of one job said and threw.
struct Job {
  std::shared_ptr<FakeNetwork> network;
  RankDeadlines deadlines{};
  std::mutex mutex;
  std::vector<std::string> reports;
  std::vector<std::string> errors;  // by rank
  std::vector<int> kinds;
  std::vector<char> closed;

  explicit Job(int ranks)
      : network(FakeNetwork::of(ranks)), errors(ranks), kinds(ranks), closed(ranks, false) {}

  // Runs body(communicator) as every rank, each in a thread, and closes.
  template <class Body>
  void run(const Body& body) {
    std::vector<std::thread> threads;
    for (int rank = 0; rank < static_cast<int>(errors.size()); ++rank)
      threads.emplace_back([this, rank, &body] {
        RankCommunicator ranks([this, rank] { return network->open(rank); }, concat("host", rank), deadlines,
                               [this](const std::string& text) {
                                 const std::lock_guard lock(mutex);
                                 reports.push_back(text);
                               });
        try {
          ranks.together([&] { body(ranks); });
        } catch (const Error& error) {
          errors[rank] = error.what();
          kinds[rank] = error.exit_code();
        }
        closed[rank] = ranks.close();
      });
    for (std::thread& thread : threads) thread.join();
  }
  void require_no_error() const {
    for (const std::string& error : errors) REQUIRE(error == "");
    for (const char ended : closed) REQUIRE(ended);
  }
};

// Values of very different sizes, so that another order gives other bits.
float value(int shard, std::int64_t i) {
  const auto h = static_cast<std::uint64_t>(i * 31 + shard + 7) * 0x9e3779b97f4a7c15u;
  return std::ldexp(static_cast<float>(static_cast<std::int32_t>(h >> 32)), -31 - static_cast<int>(h & 7));
}

constexpr std::int64_t elements = 1003;

Tensor gradient_of(int shard) {
  Tensor t = Tensor::empty({elements});
  for (std::int64_t i = 0; i < elements; ++i) t.mutable_data<float>()[i] = value(shard, i);
  return t;
}

void add(Tensor& left, const Tensor& right) {
  float* to = left.mutable_data<float>();
  for (std::int64_t i = 0; i < left.numel(); ++i) to[i] += right.data<float>()[i];
}

// What rank `rank` of `ranks` gives to the sum.
ShardSums contribution(int shards, int present, int rank, int ranks, Allreduce how) {
  const ShardRange own = shards_of_rank(shards, present, rank, ranks);
  ShardSums sums{.shards = shards, .present = present, .ends = {}};
  NodeStack<Tensor> stack;
  for (int i = own.begin; i < own.end; ++i) {
    if (how == Allreduce::s16)
      sums.parts.push_back(gradient_of(i));
    else
      stack.push({i, i + 1}, gradient_of(i), present, add);
  }
  for (auto& node : stack.nodes()) sums.parts.push_back(node.sum);
  sums.result = Tensor::full({elements}, -1.0f);
  return sums;
}

std::vector<float> values_of(const Tensor& t) { return {t.span<float>().begin(), t.span<float>().end()}; }

std::vector<float> sum_alone(int shards, int present, Allreduce how) {
  ShardSums sums = contribution(shards, present, 0, 1, how);
  const Tensor result = sums.result;
  single_process().start_sum(std::move(sums), how).get();
  return values_of(result);
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

}  // namespace

TEST_CASE("shards have the same sum on any number of ranks", "[ranks]") {
  struct Row {
    int shards, present, ranks;
  };
  const Row rows[] = {{1, 1, 1}, {2, 2, 2}, {4, 4, 1}, {4, 4, 2}, {4, 4, 4},   {8, 8, 4},  {8, 5, 4},
                      {8, 3, 4}, {8, 1, 8}, {4, 1, 2}, {3, 3, 3}, {6, 6, 2},   {6, 6, 3},  {6, 4, 3},
                      {6, 1, 6}, {6, 5, 2}, {5, 5, 5}, {5, 2, 5}, {12, 12, 4}, {12, 7, 6}, {16, 16, 8}};
  for (const Row& row : rows) {
    for (const Allreduce how : {Allreduce::tree, Allreduce::s16}) {
      INFO(row.present << " of " << row.shards << " shards on " << row.ranks << " ranks, "
                       << (how == Allreduce::tree ? "tree" : "s16"));
      const std::vector<float> expected = sum_alone(row.shards, row.present, how);
      Job job(row.ranks);
      std::vector<std::vector<std::vector<float>>> seen(static_cast<std::size_t>(row.ranks));
      job.run([&](Communicator& ranks) {
        std::vector<std::future<void>> done;
        std::vector<Tensor> results;
        for (int repeat = 0; repeat < 3; ++repeat) {  // several at once, as buckets are
          ShardSums sums = contribution(row.shards, row.present, ranks.rank(), ranks.size(), how);
          results.push_back(sums.result);
          done.push_back(ranks.start_sum(std::move(sums), how));
        }
        for (auto& sum : done) sum.get();
        for (const Tensor& result : results)
          seen[static_cast<std::size_t>(ranks.rank())].push_back(values_of(result));
      });
      job.require_no_error();
      for (const auto& sums : seen)
        for (const std::vector<float>& sum : sums) CHECK(same_bits(sum, expected));
    }
  }
}

TEST_CASE("the tree of one shard and of two is the plain sum", "[ranks]") {
  CHECK(same_bits(sum_alone(1, 1, Allreduce::tree), values_of(gradient_of(0))));
  Tensor both = gradient_of(0);
  add(both, gradient_of(1));
  CHECK(same_bits(sum_alone(2, 2, Allreduce::tree), values_of(both)));
}

TEST_CASE("a sum in 16 bits is near the exact one", "[ranks]") {
  for (const int shards : {1, 2, 7, 64}) {
    INFO(shards << " shards");
    std::vector<double> exact(elements, 0.0);
    float largest = 0;
    for (int s = 0; s < shards; ++s)
      for (std::int64_t i = 0; i < elements; ++i) {
        exact[static_cast<std::size_t>(i)] += value(s, i);
        largest = std::max(largest, std::abs(value(s, i)));
      }
    const std::vector<float> sum = sum_alone(shards, shards, Allreduce::s16);
    const double unit = largest / 32767.0;
    for (std::size_t i = 0; i < exact.size(); ++i)
      REQUIRE(std::abs(sum[i] - exact[i]) <= shards * unit * 1.001);
  }
}

TEST_CASE("scales of 16 bits, and what has none", "[ranks]") {
  const float infinite = std::numeric_limits<float>::infinity();
  ShardSums sums{.parts = {Tensor::from({6}, {1e-3f, -1e-3f, 1000, -3, 0, 0})},
                 .result = Tensor::empty({6}),
                 .ends = {2, 4, 6}};
  const Tensor result = sums.result;
  single_process().start_sum(sums, Allreduce::s16).get();
  const float* values = result.data<float>();
  CHECK(values[0] == Approx(1e-3));  // not drowned by the 1000 of another scale
  CHECK(values[1] == Approx(-1e-3));
  CHECK(values[2] == Approx(1000));
  CHECK(values[3] == Approx(-3).margin(0.5 * 1000 / 32767));
  CHECK(values[4] == 0);
  for (const float bad : {infinite, std::nanf("")}) {
    sums.parts = {Tensor::from({6}, {1, 2, bad, 4, 5, 6})};
    single_process().start_sum(sums, Allreduce::s16).get();
    CHECK(result.data<float>()[0] == Approx(1).margin(1e-4));
    CHECK(std::isnan(result.data<float>()[2]));
    CHECK(std::isnan(result.data<float>()[3]));
    CHECK(result.data<float>()[5] == Approx(6).margin(1e-3));
  }
}

TEST_CASE("MPI's own sum", "[ranks]") {
  const std::vector<float> expected = sum_alone(6, 5, Allreduce::tree);
  for (const int n : {1, 2, 3}) {
    Job job(n);
    job.run([&](Communicator& ranks) {
      ShardSums sums = contribution(6, 5, ranks.rank(), n, Allreduce::mpi);
      const Tensor result = sums.result;
      ranks.start_sum(std::move(sums), Allreduce::mpi).get();
      for (std::size_t i = 0; i < expected.size(); ++i)
        if (std::abs(result.data<float>()[i] - expected[i]) > 1e-5f) fail(ErrorKind::internal, "element ", i);
    });
    job.require_no_error();
  }
}

TEST_CASE("the tree moves each byte twice, and 16 bits half of them", "[ranks]") {
  const auto bytes_of = [](int ranks, int shards, Allreduce how) {
    Job job(ranks);
    job.run(
        [&](Communicator& c) { c.start_sum(contribution(shards, shards, c.rank(), ranks, how), how).get(); });
    job.require_no_error();
    return static_cast<double>(job.network->data_bytes());
  };
  const double all = 4.0 * elements;
  for (const int n : {2, 4, 8}) {
    INFO(n << " ranks");
    CHECK(bytes_of(n, n, Allreduce::tree) == Approx(2 * (n - 1) * all).epsilon(0.01));
    CHECK(bytes_of(n, n, Allreduce::s16) == Approx((n - 1) * all).epsilon(0.01));
  }
}

TEST_CASE("what ranks tell each other", "[ranks]") {
  for (const int n : {1, 2, 3, 5}) {
    INFO(n << " ranks");
    Job job(n);
    job.run([&](Communicator& ranks) {
      const int rank = ranks.rank();
      const auto expect = [&](bool condition, const char* what) {
        check(condition, ErrorKind::internal, what);
      };
      const auto sums = ranks.start_sum({rank, 1, -rank}).get();
      expect(sums == Communicator::Integers{n * (n - 1) / 2, n, -n * (n - 1) / 2}, "sum");
      expect(ranks.start_max({rank, -rank}).get() == Communicator::Integers{n - 1, 0}, "max");
      expect(ranks.any(rank == n - 1) && !ranks.any(false), "any");
      expect(ranks.broadcast(rank == 0 ? "hello" : "ignored") == "hello", "broadcast");
      expect(ranks.broadcast(rank == 0 ? "" : "ignored").empty(), "empty broadcast");
      int made = 0;
      expect(ranks.once([&] { return ++made, "text"; }) == "text" && made == (rank == 0), "once");
      const auto texts = ranks.gather(std::string(static_cast<std::size_t>(rank * 5), 'a' + rank));
      for (int r = 0; r < n; ++r)
        expect(texts[static_cast<std::size_t>(r)] == std::string(static_cast<std::size_t>(r * 5), 'a' + r),
               "gather");
      Tensor tensor = Tensor::full({3}, static_cast<float>(rank + 1));
      ranks.start_broadcast(tensor).get();
      expect(tensor.data<float>()[2] == 1.0f, "tensor");
      (void)ranks.start_max({1});  // nobody waits for it
      ranks.barrier();
    });
    job.require_no_error();
    CHECK(job.reports.empty());
  }
}

TEST_CASE("an error of one rank ends all", "[ranks]") {
  for (const int guilty : {0, 1, 2}) {
    INFO("rank " << guilty);
    Job job(3);
    job.run([&](Communicator& ranks) {
      ranks.barrier();
      if (ranks.rank() == guilty) fail(ErrorKind::bad_data, "image 7.jpg is damaged");
      ShardSums sums = contribution(3, 3, ranks.rank(), 3, Allreduce::tree);
      const auto dropped = ranks.start_sum(sums, Allreduce::tree);
      ranks.start_sum({1}).get();
      ranks.barrier();
    });
    for (int rank = 0; rank < 3; ++rank) {
      CHECK(job.kinds[static_cast<std::size_t>(rank)] == 65);
      CHECK(job.errors[static_cast<std::size_t>(rank)] ==
            (rank == guilty ? "" : concat("rank ", guilty, " of 3 (host", guilty, "): ")) +
                "image 7.jpg is damaged");
      CHECK_FALSE(job.closed[static_cast<std::size_t>(rank)]);
    }
    CHECK(job.network->aborted().empty());
    // The first rank says at once what it hears, and nothing of its own.
    CHECK(job.reports.size() == (guilty == 0 ? 0 : 1));
  }
}

TEST_CASE("a rank of which nothing is heard is lost", "[ranks]") {
  Job job(3);
  job.deadlines.lost = 1s;
  const auto begin = std::chrono::steady_clock::now();
  job.run([&](Communicator& ranks) {
    ranks.barrier();
    if (ranks.rank() == 1) job.network->cut_off(1);
    ranks.barrier();
  });
  CHECK(std::chrono::steady_clock::now() - begin < 10s);
  for (const int kind : job.kinds) CHECK(kind == 74);
  REQUIRE_FALSE(job.network->aborted().empty());
  CHECK(job.network->aborted().front() == 74);
  REQUIRE_FALSE(job.reports.empty());
  CHECK(job.reports.front().find("rank 2 of 3 (host2): nothing was heard of rank 1 of 3 (host1) for") == 0);
}

TEST_CASE("a rank that computes for long is reported, and waited for", "[ranks]") {
  Job job(3);
  job.deadlines = {.lost = 5s, .slow = 0.2s, .stuck = 60s};
  job.run([&](Communicator& ranks) {
    ranks.barrier();
    if (ranks.rank() == 1) std::this_thread::sleep_for(1s);
    ranks.barrier();
    ranks.barrier();
  });
  job.require_no_error();
  REQUIRE(job.reports.size() == 1);
  CHECK(job.reports.front().find("warning: rank 1 of 3 (host1) is alive") == 0);
}

TEST_CASE("a rank that never comes ends the job", "[ranks]") {
  Job job(2);
  job.deadlines = {.lost = 5s, .slow = 0.1s, .stuck = 0.4s, .close = 0.2s};
  job.run([&](Communicator& ranks) {
    ranks.barrier();
    if (ranks.rank() == 1) std::this_thread::sleep_for(1500ms);
    ranks.barrier();
  });
  CHECK(job.kinds[0] == 74);
  REQUIRE(job.reports.size() >= 2);
  CHECK(job.reports[1].find("rank 0 of 2 (host0): rank 1 of 2 (host1) is alive and has not come") == 0);
}

TEST_CASE("a rank that waits with patience waits for as long as the others live", "[ranks]") {
  Job job(2);
  job.deadlines = {.lost = 5s, .slow = 0.1s, .stuck = 0.2s};
  job.run([&](Communicator& ranks) {
    if (ranks.rank() == 1) std::this_thread::sleep_for(1s);
    ranks.barrier(Patience::endless);
  });
  job.require_no_error();
  CHECK(job.reports.empty());
}

TEST_CASE("a job that was suspended goes on", "[ranks]") {
  Job job(3);
  job.deadlines = {.lost = 1.5s, .slow = 1s, .stuck = 2s};
  job.run([&](Communicator& ranks) {
    ranks.barrier();
    if (ranks.rank() == 0) job.network->suspend(4s);
    for (int i = 0; i < 3; ++i) ranks.barrier();
  });
  job.require_no_error();
  CHECK(job.reports.empty());
}

TEST_CASE("an exchange that fails on one rank ends all", "[ranks]") {
  Job job(4);
  const auto begin = std::chrono::steady_clock::now();
  job.run([&](Communicator& ranks) {
    ranks.barrier();
    if (ranks.rank() == 2) job.network->fail_next_send(2);
    // Nobody waits for the sum that fails, but for what comes after it.
    const auto sum = ranks.start_sum(contribution(4, 4, ranks.rank(), 4, Allreduce::tree), Allreduce::tree);
    ranks.barrier();
  });
  CHECK(std::chrono::steady_clock::now() - begin < 5s);
  for (int rank = 0; rank < 4; ++rank) {
    CHECK(job.kinds[static_cast<std::size_t>(rank)] == 74);
    CHECK(job.errors[static_cast<std::size_t>(rank)].find("the cable is on fire") != std::string::npos);
  }
}

TEST_CASE("an error that all ranks throw is told by nobody", "[ranks]") {
  Job job(3);
  job.run([](Communicator& ranks) {
    ranks.barrier();
    check_agreed(false, ErrorKind::diverged, "loss nan");
  });
  CHECK(job.errors == std::vector<std::string>(3, "loss nan"));
  CHECK(job.reports.empty());
  for (const char closed : job.closed) CHECK(closed);
}

TEST_CASE("a transport that hangs when it is closed keeps nobody", "[ranks]") {
  Job job(2);
  job.deadlines.close = 0.1s;
  job.network->hang_at_close(1);
  job.run([](Communicator& ranks) { ranks.barrier(); });
  CHECK(job.errors == std::vector<std::string>(2));
  CHECK(job.closed[0]);
  CHECK_FALSE(job.closed[1]);
}

TEST_CASE("a transport that cannot be opened", "[ranks]") {
  const auto open = []() -> std::unique_ptr<Transport> { fail(ErrorKind::usage, "built without MPI"); };
  CHECK_THROWS_WITH(RankCommunicator(open, "host", RankDeadlines(), [](const std::string&) {}),
                    "built without MPI");
}
