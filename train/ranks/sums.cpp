#include "train/ranks/sums.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "core/error.h"
#include "train/ranks/wire.h"

namespace faq {
namespace {

// Elements [begin, end).
struct Segment {
  std::int64_t begin = 0;
  std::int64_t end = 0;
  std::int64_t size() const { return end - begin; }
};

Segment share_of_rank(std::int64_t size, int rank, int ranks) {
  return {size * rank / ranks, size * (rank + 1) / ranks};
}

template <class T>
std::span<const std::byte> bytes_of(const T* data, std::int64_t size) {
  return std::as_bytes(std::span(data, static_cast<std::size_t>(size)));
}
template <class T>
std::span<std::byte> writable_bytes_of(T* data, std::int64_t size) {
  return std::as_writable_bytes(std::span(data, static_cast<std::size_t>(size)));
}

template <class T>
void add(T* to, const T* from, std::int64_t size) {
  for (std::int64_t i = 0; i < size; ++i) to[i] += from[i];
}

bool one_node_per_rank(const ShardSums& sums, int ranks) {
  const auto own = static_cast<unsigned>(sums.shards / ranks);
  return std::has_single_bit(own) && std::has_single_bit(static_cast<unsigned>(ranks));
}

// Before round d (1, 2, 4 …) a rank has the sum of the nodes of its group of d neighbours, for one segment.
class Halving {
 public:
  Halving(ShardSums& sums, Wire& wire)
      : sums_(sums), wire_(wire), values_(sums.result.mutable_data<float>()) {
    scratch_.resize(static_cast<std::size_t>((sums.result.numel() + 1) / 2));
  }

  void run() {
    std::vector<Segment> segments{{0, sums_.result.numel()}};
    for (int distance = 1; distance < wire_.size(); distance *= 2) {
      const auto [kept, given] = halves(segments.back(), distance);
      reduce(distance, kept, given);
      segments.push_back(kept);
    }
    for (int distance = wire_.size() / 2; distance >= 1; distance /= 2) {
      const Segment own = segments.back();
      segments.pop_back();
      const auto other = halves(segments.back(), distance).second;
      const int peer = wire_.rank() ^ distance;
      const Wire::Outgoing out[] = {{peer, bytes_of(values_ + own.begin, own.size())}};
      const Wire::Incoming in[] = {{peer, writable_bytes_of(values_ + other.begin, other.size())}};
      wire_.exchange(out, in);
    }
  }

 private:
  // The half that this rank keeps, and the half that its peer keeps.
  std::pair<Segment, Segment> halves(Segment segment, int distance) const {
    const std::int64_t middle = segment.begin + segment.size() / 2;
    const Segment low{segment.begin, middle}, high{middle, segment.end};
    return (wire_.rank() & distance) == 0 ? std::pair(low, high) : std::pair(high, low);
  }

  // Groups are aligned, so a group has shards if its first rank has some.
  bool has_shards(int rank, int distance) const {
    const int first = rank & ~(distance - 1);
    return !shards_of_rank(sums_.shards, sums_.present, first, wire_.size()).empty();
  }

  void reduce(int distance, Segment kept, Segment given) {
    const int peer = wire_.rank() ^ distance;
    const bool mine = has_shards(wire_.rank(), distance), theirs = has_shards(peer, distance);
    std::vector<Wire::Outgoing> out;
    std::vector<Wire::Incoming> in;
    if (mine) out.push_back({peer, bytes_of(values_ + given.begin, given.size())});
    if (theirs) in.push_back({peer, writable_bytes_of(scratch_.data(), kept.size())});
    wire_.exchange(out, in);
    if (mine && theirs)
      add(values_ + kept.begin, scratch_.data(), kept.size());
    else if (theirs)
      std::copy_n(scratch_.data(), kept.size(), values_ + kept.begin);
  }

  ShardSums& sums_;
  Wire& wire_;
  float* values_;
  std::vector<float> scratch_;
};

// Every rank gets its share of the elements of all parts, as T, from everybody. `part(p, index)`: the values
// that this rank sends. Calls `body(rank, index, values)` in the order of ranks and parts, its own ones too.
template <class T, class Part, class Body>
void gather_shares(Wire& wire, std::int64_t size, const std::vector<int>& parts_of_rank, const Part& part,
                   const Body& body) {
  const int me = wire.rank();
  const Segment own = share_of_rank(size, me, wire.size());
  int expected = 0;
  for (int rank = 0; rank < wire.size(); ++rank)
    if (rank != me) expected += parts_of_rank[static_cast<std::size_t>(rank)];
  std::vector<T> received(static_cast<std::size_t>(expected * own.size()));
  std::vector<Wire::Outgoing> out;
  std::vector<Wire::Incoming> in;
  std::int64_t at = 0;
  for (int rank = 0; rank < wire.size(); ++rank) {
    if (rank == me) continue;
    const Segment theirs = share_of_rank(size, rank, wire.size());
    for (int i = 0; i < parts_of_rank[static_cast<std::size_t>(me)]; ++i)
      out.push_back({rank, bytes_of(part(i) + theirs.begin, theirs.size())});
    for (int i = 0; i < parts_of_rank[static_cast<std::size_t>(rank)]; ++i, at += own.size())
      in.push_back({rank, writable_bytes_of(received.data() + at, own.size())});
  }
  wire.exchange(out, in);
  at = 0;
  for (int rank = 0; rank < wire.size(); ++rank) {
    for (int i = 0; i < parts_of_rank[static_cast<std::size_t>(rank)]; ++i) {
      if (rank == me) {
        body(rank, i, part(i) + own.begin);
      } else {
        body(rank, i, received.data() + at);
        at += own.size();
      }
    }
  }
}

// Every rank has the final values of its share; all get all.
template <class T>
void spread_shares(Wire& wire, T* values, std::int64_t size) {
  const Segment own = share_of_rank(size, wire.rank(), wire.size());
  std::vector<Wire::Outgoing> out;
  std::vector<Wire::Incoming> in;
  for (int rank = 0; rank < wire.size(); ++rank) {
    if (rank == wire.rank()) continue;
    const Segment theirs = share_of_rank(size, rank, wire.size());
    out.push_back({rank, bytes_of(values + own.begin, own.size())});
    in.push_back({rank, writable_bytes_of(values + theirs.begin, theirs.size())});
  }
  wire.exchange(out, in);
}

void sum_directly(ShardSums& sums, Wire& wire) {
  const std::int64_t size = sums.result.numel();
  const Segment own = share_of_rank(size, wire.rank(), wire.size());
  std::vector<std::vector<ShardRange>> nodes;
  std::vector<int> counts;
  for (int rank = 0; rank < wire.size(); ++rank) {
    nodes.push_back(nodes_in(shards_of_rank(sums.shards, sums.present, rank, wire.size()), sums.present));
    counts.push_back(static_cast<int>(nodes.back().size()));
  }
  using Values = std::vector<float>;
  NodeStack<Values> stack;
  gather_shares<float>(
      wire, size, counts, [&](int i) { return sums.parts[static_cast<std::size_t>(i)].data<float>(); },
      [&](int rank, int i, const float* values) {
        stack.push(nodes[static_cast<std::size_t>(rank)][static_cast<std::size_t>(i)],
                   Values(values, values + own.size()), sums.present, [](Values& left, const Values& right) {
                     add(left.data(), right.data(), static_cast<std::int64_t>(left.size()));
                   });
      });
  float* result = sums.result.mutable_data<float>();
  std::ranges::copy(stack.nodes().front().sum, result + own.begin);
  spread_shares(wire, result, size);
}

ShardRange own_shards(const ShardSums& sums, const Wire& wire) {
  check(wire.size() > 0 && sums.shards % wire.size() == 0 && sums.present > 0 && sums.present <= sums.shards,
        "sum over shards: ", sums.present, " of ", sums.shards, " shards on ", wire.size(), " ranks");
  return shards_of_rank(sums.shards, sums.present, wire.rank(), wire.size());
}

void check_parts(const ShardSums& sums, std::size_t expected) {
  check(sums.parts.size() == expected, "sum over shards: ", sums.parts.size(), " parts, expected ", expected);
  for (const Tensor& part : sums.parts)
    check(part.shape() == sums.result.shape() && part.dtype() == DType::f32, "sum over shards: a part of ",
          part.shape(), " for a sum of ", sums.result.shape());
}

// A part for each node of the tree that the rank's shards make.
void check_nodes(const ShardSums& sums, const Wire& wire) {
  check_parts(sums, nodes_in(own_shards(sums, wire), sums.present).size());
}

void copy_first_part(ShardSums& sums) {
  if (sums.parts.empty() || sums.parts.front().raw() == sums.result.raw()) return;
  std::memcpy(sums.result.mutable_raw(), sums.parts.front().raw(), sums.result.bytes());
}

}  // namespace

void sum_by_tree(ShardSums& sums, Wire& wire) {
  check_nodes(sums, wire);
  if (wire.size() == 1 || one_node_per_rank(sums, wire.size())) {
    copy_first_part(sums);
    if (wire.size() > 1) Halving(sums, wire).run();
  } else {
    sum_directly(sums, wire);
  }
}

void sum_by_mpi(ShardSums& sums, Wire& wire) {
  check_nodes(sums, wire);
  copy_first_part(sums);
  float* result = sums.result.mutable_data<float>();
  if (sums.parts.empty()) std::fill_n(result, sums.result.numel(), 0.0f);
  for (std::size_t i = 1; i < sums.parts.size(); ++i)
    add(result, sums.parts[i].data<float>(), sums.result.numel());
  wire.sum(sums.result.mutable_span<float>());
}

namespace {

constexpr float largest_s16 = 32767.0f;

// To the nearest integer, ties to even, of magnitudes far below 2^22 and 2^51: adding this number leaves no
// room for a fraction. Loops of it vectorise, unlike those of nearbyint.
float rounded(float value) { return (value + 12582912.0f) - 12582912.0f; }
double rounded(double value) { return (value + 6755399441055744.0) - 6755399441055744.0; }

// One scale for each part of the elements that ends at `ends`.
std::vector<float> shared_scales(const ShardSums& sums, const std::vector<std::int64_t>& ends, Wire& wire) {
  std::vector<std::int64_t> largest(ends.size(), 0);
  for (const Tensor& shard : sums.parts) {
    const float* values = shard.data<float>();
    std::int64_t i = 0;
    for (std::size_t e = 0; e < ends.size(); ++e) {
      std::int32_t most = 0;  // magnitudes have the order of their bits, those of NaN are the largest
      for (; i < ends[e]; ++i) most = std::max(most, std::bit_cast<std::int32_t>(values[i]) & 0x7fffffff);
      largest[e] = std::max<std::int64_t>(largest[e], most);
    }
  }
  wire.max(largest);
  std::vector<float> scales;
  for (const std::int64_t bits : largest)
    scales.push_back(std::bit_cast<float>(static_cast<std::int32_t>(bits)) / largest_s16);
  return scales;
}

}  // namespace

void sum_by_s16(ShardSums& sums, Wire& wire) {
  check_parts(sums, static_cast<std::size_t>(own_shards(sums, wire).size()));
  check(sums.present <= 65535, ErrorKind::usage, "sum in 16 bits: ", sums.present, " shards, at most 65535");
  const std::int64_t size = sums.result.numel();
  const std::vector<std::int64_t> ends = sums.ends.empty() ? std::vector{size} : sums.ends;
  check(ends.back() == size, "sum in 16 bits: scales for ", ends.back(), " of ", size, " elements");
  const std::vector<float> scales = shared_scales(sums, ends, wire);

  // The sums of the integers of this rank's shards: of one shard 16 bits are enough.
  std::vector<std::int32_t> own(static_cast<std::size_t>(size), 0);
  for (const Tensor& shard : sums.parts) {
    const float* values = shard.data<float>();
    std::int32_t* integers = own.data();
    std::int64_t i = 0;
    for (std::size_t e = 0; e < ends.size(); ++e) {
      // A scale of zero, or one that is not finite: all integers are 0, and the scale makes the rest.
      const float inverse = scales[e] > 0 && std::isfinite(scales[e]) ? 1.0f / scales[e] : 0.0f;
      if (inverse == 0.0f || !std::isfinite(inverse)) {
        i = ends[e];
        continue;
      }
      for (; i < ends[e]; ++i)
        integers[i] +=
            static_cast<std::int32_t>(std::clamp(rounded(values[i] * inverse), -largest_s16, largest_s16));
    }
  }
  std::vector<int> parts_of_rank;
  bool narrow = true;
  for (int rank = 0; rank < wire.size(); ++rank) {
    const int shards = shards_of_rank(sums.shards, sums.present, rank, wire.size()).size();
    parts_of_rank.push_back(shards > 0 ? 1 : 0);
    narrow = narrow && shards <= 1;
  }
  const Segment share = share_of_rank(size, wire.rank(), wire.size());
  std::vector<std::int32_t> total(static_cast<std::size_t>(share.size()), 0);
  const auto accumulate = [&](int, int, const auto* values) {
    for (std::size_t i = 0; i < total.size(); ++i) total[i] += values[i];
  };
  std::vector<std::int16_t> means(static_cast<std::size_t>(size));
  if (narrow) {
    for (std::size_t i = 0; i < own.size(); ++i) means[i] = static_cast<std::int16_t>(own[i]);
    gather_shares<std::int16_t>(
        wire, size, parts_of_rank, [&](int) -> const std::int16_t* { return means.data(); }, accumulate);
  } else {
    gather_shares<std::int32_t>(
        wire, size, parts_of_rank, [&](int) -> const std::int32_t* { return own.data(); }, accumulate);
  }
  for (std::size_t i = 0; i < total.size(); ++i)
    means[static_cast<std::size_t>(share.begin) + i] =
        static_cast<std::int16_t>(rounded(static_cast<double>(total[i]) / sums.present));
  spread_shares(wire, means.data(), size);

  float* result = sums.result.mutable_data<float>();
  std::int64_t i = 0;
  for (std::size_t e = 0; e < ends.size(); ++e) {
    const float unit = std::isfinite(scales[e]) ? scales[e] * static_cast<float>(sums.present)
                                                : std::numeric_limits<float>::quiet_NaN();
    for (; i < ends[e]; ++i) result[i] = static_cast<float>(means[static_cast<std::size_t>(i)]) * unit;
  }
}

void sum(ShardSums& sums, Allreduce how, Wire& wire) {
  switch (how) {
    case Allreduce::tree:
      return sum_by_tree(sums, wire);
    case Allreduce::mpi:
      return sum_by_mpi(sums, wire);
    case Allreduce::s16:
      return sum_by_s16(sums, wire);
  }
}

}  // namespace faq
