// The thread that owns the transport: it opens it, makes every call, and ends it.
#pragma once

#include <chrono>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "core/error.h"
#include "train/ranks/patience.h"
#include "train/ranks/remote_error.h"
#include "train/ranks/transport.h"
#include "train/ranks/wire.h"

namespace faq {

/// How long ranks wait for each other. Every wait has a deadline.
struct RankDeadlines {
  std::chrono::duration<double> lost{30};  ///< without a heartbeat of a rank: the job ends
  std::chrono::duration<double> slow{60};  ///< a rank that lives and does not come to an exchange is reported
  std::chrono::duration<double> stuck{600};  ///< … and the job ends
  std::chrono::duration<double> open{300};   ///< for the transport, e.g. MPI_Init
  std::chrono::duration<double> close{5};    ///< for good manners when a job ends
};

/// Runs pieces of work one after the other, in the order of run(), which all ranks must share. While one
/// waits for the network, it polls with short sleeps and leaves the CPU to who computes; it sends heartbeats
/// to the next rank of a ring and listens to those of the rank before, at any time.
class RankThread {
 public:
  using Open = std::function<std::unique_ptr<Transport>()>;
  using Work = std::function<void(Wire&)>;
  /// Called by the rank thread, with a line for people: a rank that is slow or lost.
  using Report = std::function<void(const std::string&)>;

  /// Returns when the transport is open. Throws what `open` throws.
  RankThread(const Open& open, const RankDeadlines& deadlines, Report report);
  /// Closes, if close() was not called.
  ~RankThread();

  int rank() const { return rank_; }
  int size() const { return size_; }
  /// "rank 3 of 8", with the host after name_hosts().
  std::string name_of(int rank) const;
  void name_hosts(std::vector<std::string> hosts);
  void set_lost_after(double seconds);

  /// The future throws what the work threw, or RemoteError when another rank has failed or is lost. Work that
  /// throws has failed, as by fail(). `patience`: of the work with the other ranks.
  std::future<void> run(Work work, Patience patience = Patience::limited);
  /// Tells the other ranks that this one has failed. Their work throws RemoteError from then on; so does this
  /// rank's.
  void fail(const Error& error);
  /// Waits until all ranks have come to their end, and closes the transport. Returns false after a failure,
  /// and if something hung: then the transport was not closed, and the process must end by std::_Exit.
  bool close();

 private:
  struct State;
  class PollingWire;

  int rank_ = 0;
  int size_ = 1;
  std::shared_ptr<State> state_;  ///< shared with the thread, which may outlive this
  std::thread thread_;
};

}  // namespace faq
