// How a run is asked to end early.
#pragma once

#include <atomic>
#include <memory>

namespace faq {

/// A flag that its copies share: whoever holds one may ask, and what runs looks at it between two steps. One
/// is made per run, so that two runs of a process can be stopped apart. (std::stop_token does not fit: a
/// signal handler must not call request_stop().)
class StopToken {
 public:
  static_assert(std::atomic<bool>::is_always_lock_free, "a signal handler may only touch lock-free atomics");

  /// May be called from any thread, and from a signal handler; the copy it is called on must outlive that.
  void request_stop() const noexcept { flag_->store(true, std::memory_order_relaxed); }
  bool stop_requested() const noexcept { return flag_->load(std::memory_order_relaxed); }

 private:
  std::shared_ptr<std::atomic<bool>> flag_ = std::make_shared<std::atomic<bool>>(false);
};

}  // namespace faq
