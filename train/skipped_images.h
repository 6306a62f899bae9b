// Images with faults, of all loaders of a run on all ranks: those that cannot be used and were skipped, and
// those that are used in spite of their fault.
#pragma once

#include <array>
#include <cstdint>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "data/loader.h"
#include "train/ranks/communicator.h"
#include "train/run_listener.h"

namespace faq {

class SkippedImages {
 public:
  /// `most`: of each loader. All arguments must outlive it.
  SkippedImages(const Loader& training, const Loader& validation, std::int64_t most, Communicator& ranks,
                RunListener& listener)
      : loaders_{&training, &validation}, most_(most), ranks_(ranks), listener_(listener) {}

  /// Warns about images skipped since the last call. Returns the number of all skipped images. Throws
  /// bad_data when the ranks together have skipped more than `most`: each loader has counted only what it has
  /// met. All ranks call it.
  std::int64_t count();

  /// Warns, in one line, if there are more images with recoverable faults (Loader::faulty_samples) than at
  /// the last call. Returns the number of all of them. All ranks call it.
  std::int64_t count_faulty();

  /// Samples of training and of validation, in their order.
  using Samples = std::array<std::vector<std::int64_t>, 2>;
  /// What this rank knows, for a checkpoint: what the ranks have told each other and what it met since.
  Samples skipped() const { return known_to(&Loader::skipped_samples, known_); }
  Samples faulty() const { return known_to(&Loader::faulty_samples, faulty_); }
  /// Counts what an earlier part of the run has met, without warning again.
  void resume(const Samples& skipped, const Samples& faulty);

 private:
  using Known = std::array<std::set<std::int64_t>, 2>;
  using Met = std::vector<std::pair<std::int64_t, std::string>> (Loader::*)() const;
  Samples known_to(Met met, Known known) const;

  std::array<const Loader*, 2> loaders_;
  std::int64_t most_;
  Communicator& ranks_;
  RunListener& listener_;
  Known known_;  ///< samples, of each loader
  Known faulty_;
};

}  // namespace faq
