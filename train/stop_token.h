// Requests that a run ends early.
#pragma once

#include <atomic>
#include <memory>

namespace faq {

/// A flag that all copies share. Any holder of a copy may request a stop; the run checks the flag between two
/// steps. Use one token per run, so that two runs of a process can be stopped separately. (std::stop_token
/// does not fit: a signal handler must not call request_stop().)
class StopToken {
 public:
  static_assert(std::atomic<bool>::is_always_lock_free, "a signal handler may only touch lock-free atomics");

  /// May be called from any thread and from a signal handler. The copy must live until the call returns.
  void request_stop() const noexcept { flag_->store(true, std::memory_order_relaxed); }
  bool stop_requested() const noexcept { return flag_->load(std::memory_order_relaxed); }

 private:
  std::shared_ptr<std::atomic<bool>> flag_ = std::make_shared<std::atomic<bool>>(false);
};

}  // namespace faq
