// Elementwise kernels work through a tensor in blocks that stay in the first-level cache: load (converting to
// f32), compute in f32, store (converting). Loops worth compiling for each dtype read it themselves:
// core/kernels/element.h.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "core/tensor.h"

namespace faq::kernels {

/// Elements per block of a kernel without channels.
inline constexpr std::int64_t block_length = 512;

/// The scale of a fixed-point tensor, 1 of any other.
inline float scale_of(const Tensor& x) { return x.is_fixed_point() ? x.fixed_point().scale : 1.0f; }

/// out[i] = element offset+i as f32. Integers are not scaled by their scale; s32 rounds to nearest above
/// 2^24.
void load_block(const Tensor& tensor, std::int64_t offset, std::int64_t n, float* out);
/// element offset+i = in[i]; to bf16 with rounding half to even; to integers by truncating an already rounded
/// value.
void store_block(void* base, DType dtype, std::int64_t offset, std::int64_t n, const float* in);

/// An uninitialised tensor with the scale of x, if it has one.
Tensor like(const Tensor& x, const Shape& shape, DType dtype);

/// Throws unless `out` has this shape and dtype; `what` starts the message.
void expect_place(const char* what, const Tensor& out, const Shape& shape, DType dtype);

/// Throws unless the vector has a value per channel; `what` starts the message.
void check_channels(const char* what, const Tensor& vector, std::int64_t channels);

/// How an N,H,W,C tensor is cut into blocks of whole rows of C channels, with per-channel vectors repeated to
/// the length of a block so that inner loops are long and have no modulo.
class ChannelBlocks {
 public:
  explicit ChannelBlocks(const Shape& shape);

  std::int64_t channels() const { return channels_; }
  std::int64_t rows() const { return rows_; }
  std::int64_t length() const { return rows_per_block_ * channels_; }
  std::int64_t count() const { return (rows_ + rows_per_block_ - 1) / rows_per_block_; }
  std::int64_t offset(std::int64_t block) const { return block * length(); }
  /// Elements of a block: length(), less for the last one.
  std::int64_t size(std::int64_t block) const;
  std::vector<float> repeat(const float* per_channel) const;
  void repeat(const float* per_channel, float* repeated) const;
  /// per_channel[c] += the sum of values[i] with i mod channels == c.
  void fold(const float* values, std::int64_t n, double* per_channel) const;

 private:
  std::int64_t channels_;
  std::int64_t rows_;
  std::int64_t rows_per_block_;
};

/// Blocks gathered into chunks of fixed length, each with its own partial sums: what a reduction adds up, and
/// in which order, is a property of the tensor, not of the threads.
class Chunks {
 public:
  explicit Chunks(const ChannelBlocks& blocks)
      : blocks_(blocks),
        blocks_per_chunk_(std::max<std::int64_t>(16, 32 * blocks.channels() / blocks.length())) {}

  std::int64_t count() const { return (blocks_.count() + blocks_per_chunk_ - 1) / blocks_per_chunk_; }
  std::int64_t length() const { return blocks_.length() * blocks_per_chunk_; }
  std::int64_t offset(std::int64_t chunk) const { return chunk * length(); }
  /// Elements of a chunk: length(), less for the last one.
  std::int64_t size(std::int64_t chunk) const {
    return std::min(length(), blocks_.rows() * blocks_.channels() - offset(chunk));
  }
  /// The blocks of a chunk are [begin, end).
  std::int64_t begin(std::int64_t chunk) const { return chunk * blocks_per_chunk_; }
  std::int64_t end(std::int64_t chunk) const {
    return std::min(blocks_.count(), (chunk + 1) * blocks_per_chunk_);
  }

 private:
  ChannelBlocks blocks_;
  std::int64_t blocks_per_chunk_;  ///< at least 32 rows: partial sums are a fraction of what they sum
};

}  // namespace faq::kernels
