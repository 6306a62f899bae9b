// How long a rank waits for the others.
#pragma once

namespace faq {

enum class Patience {
  limited,  ///< a rank that lives, and does not come in ten minutes (RankDeadlines::stuck), ends the job
  endless   ///< as long as the ranks live: some do what takes its time, such as calibration
};

}  // namespace faq
