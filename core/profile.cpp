#include "core/profile.h"

#include "core/error.h"

namespace faq {
namespace {

thread_local Profile* active = nullptr;

}  // namespace

Profile::Profile() : since_(std::chrono::steady_clock::now()) {
  check(active == nullptr, "profile: one at a time");
  active = this;
}

Profile::~Profile() { active = nullptr; }

void Profile::switch_to(Work work) {
  const auto now = std::chrono::steady_clock::now();
  seconds_[static_cast<std::size_t>(current_)] += std::chrono::duration<double>(now - since_).count();
  current_ = work;
  since_ = now;
}

std::array<double, work_names.size()> Profile::seconds() const {
  auto all = seconds_;
  all[static_cast<std::size_t>(current_)] +=
      std::chrono::duration<double>(std::chrono::steady_clock::now() - since_).count();
  return all;
}

Booked::Booked(Work work) {
  if (!active) return;
  before_ = active->current_;
  active->switch_to(work);
}

Booked::~Booked() {
  if (active) active->switch_to(before_);
}

}  // namespace faq
