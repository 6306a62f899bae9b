#include "core/kernels/byte_weights.h"

#include <algorithm>
#include <atomic>

#include "core/division.h"
#include "core/kernels/byte_tiles.h"
#include "core/parallel.h"

namespace faq::kernels {
namespace {

constexpr std::int64_t quad = 4, quad_bytes = byte_block_outputs * quad;
constexpr std::int64_t block_bytes = byte_depth * byte_block_outputs;

Tensor in_blocks(const Tensor& weights, std::int64_t lines, std::int64_t pieces) {
  const std::int64_t outputs = weights.dim(0), inputs = weights.dim(1),
                     taps = weights.dim(2) * weights.dim(3);
  const std::int64_t line = taps / lines, depth = lines * pieces;
  Tensor blocks = Tensor::zeros({divided_up(outputs, byte_block_outputs) * depth * block_bytes}, DType::s8);
  const std::int8_t* from = weights.data<std::int8_t>();
  std::int8_t* to = blocks.mutable_data<std::int8_t>();
  parallel_for(outputs, 16, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t o = begin; o < end; ++o) {
      const std::int8_t* filter = from + o * inputs * taps;
      std::int8_t* row = to + o / byte_block_outputs * depth * block_bytes + o % byte_block_outputs * quad;
      for (std::int64_t tap = 0, place = 0; tap < taps; ++tap) {
        if (tap % line == 0) place = tap / line * pieces * byte_depth;
        for (std::int64_t i = 0; i < inputs; ++i, ++place)
          row[place / quad * quad_bytes + place % quad] = filter[i * taps + tap];
      }
    }
  });
  return blocks;
}

// See ByteWeights::largest_pair.
int largest_pair_of(const std::int8_t* w, std::int64_t n) {
  int largest = 0;
  for (std::int64_t i = 0; i < n; i += 2) {
    const int a = w[i], b = w[i + 1];
    largest = std::max({largest, std::max(a, 0) + std::max(b, 0), std::max(-a, 0) + std::max(-b, 0)});
  }
  return largest;
}

}  // namespace

ByteWeights::ByteWeights(const Tensor& weights, std::int64_t lines) {
  const std::int64_t of_line = weights.dim(1) * weights.dim(2) * weights.dim(3) / lines;
  const std::int64_t pieces = divided_up(of_line, byte_depth);
  blocks = in_blocks(weights, lines, pieces);
  for (std::int64_t i = 0; i < lines * pieces; ++i) {
    const std::int64_t left = of_line - i % pieces * byte_depth;
    quads.push_back(divided_up(std::min(left, byte_depth), quad));
  }
  const std::int8_t* w = blocks.data<std::int8_t>();
  std::atomic<int> largest = 0;
  parallel_for(blocks.numel() / quad_bytes, 256, [&](std::int64_t begin, std::int64_t end) {
    const int here = largest_pair_of(w + begin * quad_bytes, (end - begin) * quad_bytes);
    for (int before = largest; before < here && !largest.compare_exchange_weak(before, here);) {
    }
  });
  largest_pair = largest;
  has_least = std::ranges::count(blocks.span<std::int8_t>(), std::int8_t{-128}) > 0;
}

}  // namespace faq::kernels
