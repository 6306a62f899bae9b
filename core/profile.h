// Where the time of a step goes.
#pragma once

#include <array>
#include <chrono>

namespace faq {

enum class Work { other, convolution, fused, optimizer, data };
inline constexpr std::array work_names{"other", "convolutions", "fused_passes", "optimizer", "data"};

/// While alive, the calling thread's time is booked on what it is doing. One at a time.
class Profile {
 public:
  Profile();
  ~Profile();
  Profile(const Profile&) = delete;
  Profile& operator=(const Profile&) = delete;

  /// Seconds booked so far, by Work.
  std::array<double, work_names.size()> seconds() const;

 private:
  friend class Booked;
  void switch_to(Work work);

  std::array<double, work_names.size()> seconds_{};
  Work current_ = Work::other;
  std::chrono::steady_clock::time_point since_;
};

/// Books the time until its end, less what is booked on others inside it. Costs a branch when nobody
/// profiles.
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
