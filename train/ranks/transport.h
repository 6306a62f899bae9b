// Carries bytes between the ranks of a job. MPI is one transport; tests have another one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace faq {

/// Everything here returns at once. One thread makes a transport, calls it and ends it (MPI_THREAD_FUNNELED).
/// Functions throw io when the network reports an error.
class Transport {
 public:
  /// An operation that has been started. The memory it was given must stay until done() has returned true. A
  /// receive that is destroyed before is cancelled, and its memory may go, unless its message was already on
  /// the way. MPI has no way to give up a send or a collective: their memory must stay until the process
  /// ends. Where operations were destroyed and are still not done, close() throws io, and does not wait.
  class Request {
   public:
    virtual ~Request() = default;
    virtual bool done() = 0;
  };
  using Started = std::unique_ptr<Request>;

  /// Messages of one channel never match those of another one.
  enum class Channel { data, heartbeat, notice };
  enum class Reduction { sum, max };
  static constexpr int any_rank = -1;
  static constexpr int tags = 1 << 15;  ///< tags are 0 to tags − 1

  virtual ~Transport() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;

  // --- between two ranks. Two messages with the same sender, receiver, channel and tag arrive in their
  // order.
  virtual Started send(int to, Channel channel, int tag, std::span<const std::byte> bytes) = 0;
  /// `bytes` may be longer than the message. `from`: a rank, or any_rank.
  virtual Started receive(int from, Channel channel, int tag, std::span<std::byte> bytes) = 0;

  // --- between all ranks, in place. All ranks must start them in the same order, with the same sizes.
  virtual Started reduce(std::span<std::int64_t> values, Reduction reduction) = 0;
  /// The library's own sum. Its order may depend on the ranks.
  virtual Started sum(std::span<float> values) = 0;
  virtual Started broadcast(std::span<std::byte> bytes, int from) = 0;

  /// Ends the use of the transport in good order. All ranks call it. It may block.
  virtual void close() = 0;
  /// Ends all processes of the job with this exit code, and where they cannot be reached, this one.
  virtual void abort(int exit_code) = 0;
};

}  // namespace faq
