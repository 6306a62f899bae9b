// Measures what the time of an optimizer step is spent on.
#pragma once

#include <array>
#include <chrono>

namespace faq {

enum class Work { other, convolution, fused, optimizer, data };
inline constexpr std::array work_names{"other", "convolutions", "fused_passes", "optimizer", "data"};

/// While a Profile is alive, it books the calling thread's time on the kind of work the thread does. A thread
/// can have only one at a time.
class Profile {
 public:
  Profile();
  ~Profile();
  Profile(const Profile&) = delete;
  Profile& operator=(const Profile&) = delete;

  /// The seconds booked so far, by Work.
  std::array<double, work_names.size()> seconds() const;

 private:
  friend class Booked;
  void switch_to(Work work);

  std::array<double, work_names.size()> seconds_{};
  Work current_ = Work::other;
  std::chrono::steady_clock::time_point since_;
};

/// Books the time until its end on `work`, minus the time that a Booked inside it books on other work. Costs
/// one branch when there is no Profile.
class Booked {
 public:
  explicit Booked(Work work);
  ~Booked();
  Booked(const Booked&) = delete;
  Booked& operator=(const Booked&) = delete;

 private:
  Work before_ = Work::other;
};

}  // namespace faq
