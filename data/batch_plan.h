// Which samples of an epoch make which batch.
#pragma once

#include <algorithm>
#include <cstdint>

#include "data/loader.h"

namespace faq {

/// Positions [begin, end) in the order of an epoch.
struct PositionRange {
  std::int64_t begin = 0;
  std::int64_t end = 0;
  std::int64_t size() const { return end - begin; }
};

/// The share of one of `ranks` processes: contiguous, as large as the others' or smaller or larger by one.
inline PositionRange share_of(std::int64_t size, std::int64_t rank, std::int64_t ranks) {
  return {size * rank / ranks, size * (rank + 1) / ranks};
}

/// Which samples make which batch (data/loader.h).
struct BatchPlan {
  std::int64_t size;
  const LoaderOptions& options;

  std::int64_t global_batch() const { return options.batch_size * options.ranks; }
  PositionRange share() const { return share_of(size, options.rank, options.ranks); }

  std::int64_t batches() const {
    if (options.training) return std::max<std::int64_t>(size / global_batch(), 1);
    return (share().size() + options.batch_size - 1) / options.batch_size;
  }
  PositionRange batch(std::int64_t index) const {
    if (!options.training) {
      const std::int64_t begin = share().begin + index * options.batch_size;
      return {begin, std::min(begin + options.batch_size, share().end)};
    }
    if (size < global_batch()) return share();
    const std::int64_t begin = index * global_batch() + options.rank * options.batch_size;
    return {begin, begin + options.batch_size};
  }
};

}  // namespace faq
