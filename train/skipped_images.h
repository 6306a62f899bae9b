// Images with faults, of all loaders of a run on all ranks: those that cannot be used and were skipped, and
// those that are used in spite of their fault.
#pragma once

#include <array>
#include <cstdint>
#include <set>
#include <string>

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

  /// What was counted up to the last calls, for a checkpoint, and back. restore() throws bad_data.
  std::string record() const;
  void restore(const std::string& record, const std::string& source);

 private:
  using Samples = std::array<std::set<std::int64_t>, 2>;  // of each loader

  std::array<const Loader*, 2> loaders_;
  std::int64_t most_;
  Communicator& ranks_;
  RunListener& listener_;
  Samples known_, faulty_;
};

}  // namespace faq
