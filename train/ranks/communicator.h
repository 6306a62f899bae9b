// The processes of a data-parallel run, and what they tell each other.
#pragma once

#include <cstddef>
#include <cstdint>
#include <future>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/tensor.h"
#include "train/ranks/shard_tree.h"

namespace faq {

/// How gradients are summed over the ranks.
enum class Allreduce {
  tree,  ///< by the tree over the shards: the same bits on any number of ranks
  mpi,   ///< by the library's own all-reduce; the bits depend on the ranks
  s16,   ///< as 16-bit integers: half the bytes, for slow networks; the same bits on any number of ranks
};

/// An error of another rank, which ends the run on this one, too. The message begins with the other rank.
class RemoteError : public Error {
 public:
  RemoteError(ErrorKind kind, const std::string& message, int rank) : Error(kind, message), rank_(rank) {}
  int rank() const { return rank_; }

 private:
  int rank_;
};

/// What a step's shards contribute to a sum, on this rank.
struct ShardSums {
  int shards = 1;   ///< of a global batch; the ranks divide it
  int present = 1;  ///< of this step
  /// One f32 tensor per node of this rank's shards (nodes_in), all of the same size. They are overwritten. Empty on
  /// a rank without shards in this step.
  std::vector<Tensor> nodes = {};
  Tensor result = {};  ///< receives the sum; may be nodes[0]
};

/// All ranks make the same calls in the same order. Calls come from one thread; the start_ functions return at
/// once, and their futures may be waited for in any order. The memory of tensors is kept until the work is done;
/// other memory must outlive the future. When a rank fails, every call and every future on the other ranks throws
/// RemoteError from then on. A single process is a communicator of size 1 without any work.
class Communicator {
 public:
  virtual ~Communicator() = default;

  virtual int rank() const { return 0; }
  virtual int size() const { return 1; }
  /// True on the rank that writes files and speaks to people.
  bool is_first() const { return rank() == 0; }
  /// "rank 3 of 8 (n2)", for messages. Empty if there is one rank.
  virtual std::string name_of(int /*rank*/) const { return {}; }

  /// Sums over all shards of the step, into `result` on every rank.
  virtual std::future<void> start_sum(ShardSums sums, Allreduce how = Allreduce::tree);
  /// Sums 64-bit integers over the ranks, exactly, in place.
  virtual std::future<void> start_sum(std::span<std::int64_t> values);
  /// The largest of all ranks' values, for each of them, in place.
  virtual std::future<void> start_max(std::span<std::int64_t> values);
  /// Copies the bytes of rank 0 to all ranks.
  virtual std::future<void> start_broadcast(std::span<std::byte> bytes);

  /// Tells all other ranks that this one has failed: they end as well.
  virtual void fail(const Error& /*error*/) noexcept {}
  /// Ends in good order: waits for all ranks. Returns false if something hung; then end the process without waiting
  /// for its threads. Nothing may be called after it.
  virtual bool close() noexcept { return true; }

  // --- made of the above

  void barrier();
  /// True on all ranks if it is true on one.
  bool any(bool mine);
  std::future<bool> start_any(bool mine);
  std::string broadcast(const std::string& text);
  void broadcast(Tensor& tensor);
  /// The texts of all ranks, in their order.
  std::vector<std::string> gather(const std::string& text);
};

}  // namespace faq
