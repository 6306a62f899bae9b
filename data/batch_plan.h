// Which samples of an epoch make which batch, and which batches a rank has.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/division.h"
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

/// The batches of all ranks are numbered in the order of the epoch. A rank has some of them (data/loader.h).
struct BatchPlan {
  std::int64_t size;
  const LoaderOptions& options;

  std::int64_t batches() const {
    if (options.training) return std::max<std::int64_t>(size / options.batch_size, 1);
    return divided_up(size, options.batch_size);
  }
  PositionRange batch(std::int64_t index) const {
    return {index * options.batch_size, std::min((index + 1) * options.batch_size, size)};
  }

  /// In training: the steps, and the shards that each rank has of a whole step.
  std::int64_t steps() const { return divided_up(batches(), options.shards); }
  int shards_per_rank() const { return options.shards / options.ranks; }
  StepShards shards_of_step(std::int64_t step) const {
    const auto present =
        static_cast<int>(std::min<std::int64_t>(batches() - step * options.shards, options.shards));
    const int first = options.rank * shards_per_rank();
    return {.begin = std::min(first, present),
            .end = std::min(first + shards_per_rank(), present),
            .present = present,
            .images = std::min(options.batch_size, size)};
  }

  std::int64_t own_batches() const {
    if (!options.training) return share_of(batches(), options.rank, options.ranks).size();
    return (steps() - 1) * shards_per_rank() + shards_of_step(steps() - 1).own();
  }
  /// The number, among the batches of all ranks, of this rank's batch `index`.
  std::int64_t own_batch(std::int64_t index) const {
    if (!options.training) return share_of(batches(), options.rank, options.ranks).begin + index;
    const std::int64_t of_rank = shards_per_rank(), step = index / of_rank;
    return step * options.shards + options.rank * of_rank + index % of_rank;
  }
  /// The most batches that any rank has.
  std::int64_t rounds() const {
    if (!options.training) return divided_up(batches(), options.ranks);
    const std::int64_t in_last_step = batches() - (steps() - 1) * options.shards;
    return (steps() - 1) * shards_per_rank() + std::min<std::int64_t>(in_last_step, shards_per_rank());
  }
};

}  // namespace faq
