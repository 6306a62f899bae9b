#include "train/ranks/rank_communicator.h"

namespace faq {

RankCommunicator::RankCommunicator(const RankThread::Open& open, const std::string& host,
                                   const RankDeadlines& deadlines, RankThread::Report report)
    : thread_(open, deadlines, std::move(report)) {
  thread_.name_hosts(gather(host));
}

RankCommunicator::~RankCommunicator() = default;

std::future<void> RankCommunicator::start_sum(ShardSums sums, Allreduce how) {
  return thread_.run([sums = std::move(sums), how, seconds = summing_seconds_](Wire& wire) mutable {
    const auto begin = std::chrono::steady_clock::now();
    sum(sums, how, wire);
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    *seconds = *seconds + took.count();  // no other thread writes
  });
}

// The work holds its values, in case nobody waits for it.
std::future<Communicator::Integers> RankCommunicator::start_reduction(
    Integers values, void (Wire::*reduce)(std::span<std::int64_t>), Patience patience) {
  const auto held = std::make_shared<Integers>(std::move(values));
  std::future<void> done = thread_.run([held, reduce](Wire& wire) { (wire.*reduce)(*held); }, patience);
  return std::async(std::launch::deferred, [held, done = std::move(done)]() mutable {
    done.get();
    return std::move(*held);
  });
}

std::future<Communicator::Integers> RankCommunicator::start_sum(Integers values) {
  return start_reduction(std::move(values), &Wire::add, Patience::limited);
}

std::future<Communicator::Integers> RankCommunicator::start_max(Integers values, Patience patience) {
  return start_reduction(std::move(values), &Wire::max, patience);
}

std::future<void> RankCommunicator::start_broadcast(Tensor tensor) {
  return thread_.run([tensor](Wire& wire) mutable {
    wire.broadcast({static_cast<std::byte*>(tensor.mutable_raw()), tensor.bytes()});
  });
}

}  // namespace faq
