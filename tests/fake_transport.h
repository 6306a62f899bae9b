// Ranks that are threads of one process, and a network between them that can fail.
#pragma once

#include <chrono>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <tuple>
#include <vector>

#include "train/ranks/transport.h"

namespace faq::testing {

class FakeNetwork : public std::enable_shared_from_this<FakeNetwork> {
 public:
  static std::shared_ptr<FakeNetwork> of(int ranks) {
    return std::shared_ptr<FakeNetwork>(new FakeNetwork(ranks));
  }
  std::unique_ptr<Transport> open(int rank);

  /// From now on nothing that this rank sends arrives.
  void cut_off(int rank);
  /// This rank's close() does not return, as an MPI_Finalize that hangs.
  void hang_at_close(int rank);
  /// All ranks stand still for some time, as in a job that is suspended.
  void suspend(std::chrono::milliseconds time);
  /// The next message that this rank sends on the data channel is an error.
  void fail_next_send(int rank);
  /// The exit codes of abort(), in the order of the calls.
  std::vector<int> aborted();
  /// Bytes sent on the data channel.
  std::int64_t data_bytes();

 private:
  class Rank;
  class Receive;
  class Collective;
  void stand_still();
  using Message = std::vector<std::byte>;
  using Address = std::tuple<int, Transport::Channel, int>;  // receiver, channel, tag
  struct Letter {
    int from;
    Message message;
  };
  struct Meeting {
    int arrived = 0;
    Message result;
  };

  explicit FakeNetwork(int ranks)
      : ranks_(ranks), cut_(static_cast<std::size_t>(ranks)), hangs_(cut_), fails_(cut_) {}

  const int ranks_;
  std::mutex mutex_;
  std::map<Address, std::deque<Letter>> letters_;
  std::map<Address, std::vector<Receive*>> posted_;
  std::map<std::int64_t, Meeting> meetings_;
  std::vector<bool> cut_, hangs_, fails_;
  std::chrono::steady_clock::time_point suspended_until_;
  std::vector<int> aborted_;
  std::int64_t data_bytes_ = 0;
};

}  // namespace faq::testing
