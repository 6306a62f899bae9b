#include "tests/fake_transport.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <functional>
#include <thread>

#include "core/error.h"

namespace faq::testing {

// Letters go to receives in the order in which those were posted, as in MPI.
class FakeNetwork::Receive final : public Transport::Request {
 public:
  Receive(std::shared_ptr<FakeNetwork> network, Address address, int from, std::span<std::byte> bytes)
      : network_(std::move(network)), address_(address), from_(from), bytes_(bytes) {
    const std::lock_guard lock(network_->mutex_);
    network_->posted_[address_].push_back(this);
  }
  ~Receive() override {
    const std::lock_guard lock(network_->mutex_);
    std::erase(network_->posted_[address_], this);
  }
  bool done() override {
    network_->stand_still();
    const std::lock_guard lock(network_->mutex_);
    auto& letters = network_->letters_[address_];
    for (Receive* receive : network_->posted_[address_]) receive->take(letters);
    return done_;
  }

 private:
  void take(std::deque<Letter>& letters) {
    if (done_) return;
    const auto letter = std::ranges::find_if(
        letters, [&](const Letter& l) { return from_ == Transport::any_rank || l.from == from_; });
    if (letter == letters.end()) return;
    std::memcpy(bytes_.data(), letter->message.data(), std::min(bytes_.size(), letter->message.size()));
    letters.erase(letter);
    done_ = true;
  }

  std::shared_ptr<FakeNetwork> network_;
  Address address_;
  int from_;
  std::span<std::byte> bytes_;
  bool done_ = false;
};

class FakeNetwork::Collective final : public Transport::Request {
 public:
  Collective(std::shared_ptr<FakeNetwork> network, std::int64_t number, std::span<std::byte> bytes)
      : network_(std::move(network)), number_(number), bytes_(bytes) {}
  bool done() override {
    if (done_) return true;
    const std::lock_guard lock(network_->mutex_);
    const Meeting& meeting = network_->meetings_[number_];
    if (meeting.arrived < network_->ranks_) return false;
    if (!bytes_.empty()) std::memcpy(bytes_.data(), meeting.result.data(), bytes_.size());
    return done_ = true;
  }

 private:
  std::shared_ptr<FakeNetwork> network_;
  std::int64_t number_;
  std::span<std::byte> bytes_;
  bool done_ = false;
};

class FakeNetwork::Rank final : public Transport {
 public:
  Rank(std::shared_ptr<FakeNetwork> network, int rank) : network_(std::move(network)), rank_(rank) {}
  int rank() const override { return rank_; }
  int size() const override { return network_->ranks_; }

  Started send(int to, Channel channel, int tag, std::span<const std::byte> bytes) override {
    network_->stand_still();
    const std::lock_guard lock(network_->mutex_);
    if (channel == Channel::data && network_->fails_[static_cast<std::size_t>(rank_)]) {
      network_->fails_[static_cast<std::size_t>(rank_)] = false;
      fail(ErrorKind::io, "the cable is on fire");
    }
    if (channel == Channel::data) network_->data_bytes_ += static_cast<std::int64_t>(bytes.size());
    if (!network_->cut_[static_cast<std::size_t>(rank_)])
      network_->letters_[{to, channel, tag}].push_back({rank_, {bytes.begin(), bytes.end()}});
    return std::make_unique<Done>();
  }
  Started receive(int from, Channel channel, int tag, std::span<std::byte> bytes) override {
    return std::make_unique<Receive>(network_, Address{rank_, channel, tag}, from, bytes);
  }
  Started reduce(std::span<std::int64_t> values, Reduction reduction) override {
    return meet<std::int64_t>(values, [reduction](std::int64_t a, std::int64_t b) {
      return reduction == Reduction::sum ? a + b : std::max(a, b);
    });
  }
  Started sum(std::span<float> values) override {
    return meet<float>(values, [](float a, float b) { return a + b; });
  }
  Started broadcast(std::span<std::byte> bytes, int from) override {
    return meet<std::byte>(
        bytes, [this, from](std::byte a, std::byte b) { return rank_ == from ? b : a; }, rank_ == from);
  }
  void close() override {
    for (;;) {
      {
        const std::lock_guard lock(network_->mutex_);
        if (!network_->hangs_[static_cast<std::size_t>(rank_)]) return;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  }
  void abort(int exit_code) override {
    const std::lock_guard lock(network_->mutex_);
    network_->aborted_.push_back(exit_code);
  }

 private:
  struct Done final : Request {
    bool done() override { return true; }
  };

  // The first to arrive gives its values, the others add theirs. A broadcast's root always gives its own.
  template <class T>
  Started meet(std::span<T> values, const std::function<T(T, T)>& combine, bool replaces = false) {
    const std::lock_guard lock(network_->mutex_);
    const std::int64_t number = next_++;
    const auto bytes = std::as_writable_bytes(values);
    if (network_->cut_[static_cast<std::size_t>(rank_)])
      return std::make_unique<Collective>(network_, number, bytes);
    Meeting& meeting = network_->meetings_[number];
    if (meeting.arrived == 0 || replaces) {
      meeting.result.assign(bytes.begin(), bytes.end());
    } else {
      auto* result = reinterpret_cast<T*>(meeting.result.data());
      for (std::size_t i = 0; i < values.size(); ++i) result[i] = combine(result[i], values[i]);
    }
    ++meeting.arrived;
    return std::make_unique<Collective>(network_, number, bytes);
  }

  std::shared_ptr<FakeNetwork> network_;
  int rank_;
  std::int64_t next_ = 0;
};

std::unique_ptr<Transport> FakeNetwork::open(int rank) {
  return std::make_unique<Rank>(shared_from_this(), rank);
}

void FakeNetwork::suspend(std::chrono::milliseconds time) {
  const std::lock_guard lock(mutex_);
  suspended_until_ = std::chrono::steady_clock::now() + time;
}

void FakeNetwork::stand_still() {
  std::chrono::steady_clock::time_point until;
  {
    const std::lock_guard lock(mutex_);
    until = suspended_until_;
  }
  std::this_thread::sleep_until(until);
}

void FakeNetwork::fail_next_send(int rank) {
  const std::lock_guard lock(mutex_);
  fails_[static_cast<std::size_t>(rank)] = true;
}

void FakeNetwork::cut_off(int rank) {
  const std::lock_guard lock(mutex_);
  cut_[static_cast<std::size_t>(rank)] = true;
}

void FakeNetwork::hang_at_close(int rank) {
  const std::lock_guard lock(mutex_);
  hangs_[static_cast<std::size_t>(rank)] = true;
}

std::vector<int> FakeNetwork::aborted() {
  const std::lock_guard lock(mutex_);
  return aborted_;
}

std::int64_t FakeNetwork::data_bytes() {
  const std::lock_guard lock(mutex_);
  return data_bytes_;
}

}  // namespace faq::testing
