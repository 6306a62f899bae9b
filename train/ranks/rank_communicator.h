// The communicator of a job with several ranks.
#pragma once

#include <atomic>

#include "train/ranks/communicator.h"
#include "train/ranks/rank_thread.h"

namespace faq {

class RankCommunicator final : public Communicator {
 public:
  /// `host`: the name of this machine, for messages.
  RankCommunicator(const RankThread::Open& open, const std::string& host, const RankDeadlines& deadlines,
                   RankThread::Report report);
  ~RankCommunicator() override;

  int rank() const override { return thread_.rank(); }
  int size() const override { return thread_.size(); }
  std::string name_of(int rank) const override { return thread_.name_of(rank); }

  std::future<void> start_sum(ShardSums sums, Allreduce how) override;
  std::future<Integers> start_sum(Integers values) override;
  std::future<Integers> start_max(Integers values, Patience patience) override;
  std::future<void> start_broadcast(Tensor tensor) override;

  void fail(const Error& error) override { thread_.fail(error); }
  bool close() override { return thread_.close(); }
  void set_lost_after(double seconds) override { thread_.set_lost_after(seconds); }
  double summing_seconds() const override { return *summing_seconds_; }

 private:
  std::future<Integers> start_reduction(Integers values, void (Wire::*reduce)(std::span<std::int64_t>),
                                        Patience patience);

  std::shared_ptr<std::atomic<double>> summing_seconds_ = std::make_shared<std::atomic<double>>(0.0);
  RankThread thread_;
};

}  // namespace faq
