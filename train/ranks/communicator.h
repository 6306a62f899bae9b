// The processes of a data-parallel run, and what they tell each other.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/foreign_error.h"
#include "core/tensor.h"
#include "train/ranks/patience.h"
#include "train/ranks/remote_error.h"
#include "train/ranks/sums.h"

namespace faq {

/// All ranks make the same calls in the same order, from one thread each. The start_ functions return at
/// once; their futures may be waited for in any order, or dropped, and throw what went wrong. When a rank has
/// failed, every call and every future on the other ranks throws RemoteError. This class is the communicator
/// of a single process: it has rank 0 of 1 and nothing to do.
class Communicator {
 public:
  Communicator() = default;
  virtual ~Communicator() = default;
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  virtual int rank() const { return 0; }
  virtual int size() const { return 1; }
  /// True on the rank that writes files and speaks to people.
  bool is_first() const { return rank() == 0; }
  /// "rank 3 of 8 (n2)", for messages.
  virtual std::string name_of(int rank) const;

  /// Sums over all shards of a step, into sums.result on every rank.
  virtual std::future<void> start_sum(ShardSums sums, Allreduce how);
  using Integers = std::vector<std::int64_t>;
  /// The exact sums over the ranks. All ranks give the same number of values.
  virtual std::future<Integers> start_sum(Integers values);
  /// The largest values of all ranks, each for itself.
  virtual std::future<Integers> start_max(Integers values, Patience patience = Patience::limited);
  /// Copies the values of rank 0 into the tensors of the others, which have the same shape and dtype.
  virtual std::future<void> start_broadcast(Tensor tensor);

  /// Tells the other ranks that this one has failed. They end as well. A function that is called on all ranks
  /// and throws on some must call it; train() does.
  virtual void fail(const Error& /*error*/) {}
  /// Ends in good order: waits for all ranks. Returns false, without waiting, after a failure, and if
  /// something hung: then end the process by std::_Exit. Nothing may be called after it.
  virtual bool close() { return true; }
  /// A rank of which nothing is heard for so long is lost, and the job ends with exit code 74.
  virtual void set_lost_after(double /*seconds*/) {}

  /// Seconds in which sums over shards were on their way, since the start.
  virtual double summing_seconds() const { return 0; }

  // --- made of the above

  /// Waits for all ranks.
  void barrier(Patience patience = Patience::limited);
  /// Returns true on all ranks if `mine` is true on one.
  bool any(bool mine) { return start_any(mine).get(); }
  std::future<bool> start_any(bool mine);
  /// The text of rank 0.
  std::string broadcast(const std::string& text);
  /// The texts of all ranks, in their order.
  std::vector<std::string> gather(const std::string& text);
  /// Makes a text on rank 0 alone, for all ranks. If it throws, the others throw RemoteError.
  std::string once(const std::function<std::string()>& make);
  /// Runs work. If it throws what the other ranks do not throw as well, tells them.
  template <class Work>
  auto together(Work&& work) {
    try {
      return work();
    } catch (const AgreedError&) {
      throw;
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::stopped) fail(error);  // to stop is agreed, and no failure
      throw;
    } catch (const std::exception& error) {
      fail(as_error(error));
      throw;
    }
  }
};

/// The communicator of a process that runs alone.
Communicator& single_process();

}  // namespace faq
