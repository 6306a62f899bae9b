// What an exchange between ranks is written in.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace faq {

/// All functions return when the operation is done. All ranks use it in the same order. They throw what ended
/// the job.
class Wire {
 public:
  struct Outgoing {
    int to;
    std::span<const std::byte> bytes;
  };
  struct Incoming {
    int from;
    std::span<std::byte> bytes;
  };

  virtual ~Wire() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  /// Sends and receives messages, all at the same time. Messages between the same two ranks keep their order.
  virtual void exchange(std::span<const Outgoing> out, std::span<const Incoming> in) = 0;
  /// The largest value of all ranks, in place.
  virtual void max(std::span<std::int64_t> values) = 0;
  /// The exact sum over all ranks, in place.
  virtual void add(std::span<std::int64_t> values) = 0;
  /// The transport's own sum, in an order that it chooses, in place.
  virtual void sum(std::span<float> values) = 0;
  /// Copies the bytes of rank 0 to all ranks.
  virtual void broadcast(std::span<std::byte> bytes) = 0;
};

/// The wire of a single process.
class NoWire final : public Wire {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }
  void exchange(std::span<const Outgoing>, std::span<const Incoming>) override {}
  void max(std::span<std::int64_t>) override {}
  void add(std::span<std::int64_t>) override {}
  void sum(std::span<float>) override {}
  void broadcast(std::span<std::byte>) override {}
};

}  // namespace faq
