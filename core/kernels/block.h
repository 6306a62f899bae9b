// Blocks of a tensor that stay in the first-level cache. Elementwise kernels load a block (converting to
// f32), compute in f32, and store it (converting). Loops that are compiled for each dtype read elements
// directly: core/kernels/element.h.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "core/aligned_vector.h"
#include "core/division.h"
#include "core/tensor.h"

namespace faq::kernels {

/// Elements per block of a kernel without channels.
inline constexpr std::int64_t block_length = 512;

/// The scale of a fixed-point tensor; 1 for any other tensor.
inline float scale_of(const Tensor& x) { return x.is_fixed_point() ? x.fixed_point().scale : 1.0f; }

/// out[i] = element offset+i as f32. Integers are not multiplied by their scale. s32 above 2^24 rounds to
/// nearest.
void load_block(const Tensor& tensor, std::int64_t offset, std::int64_t n, float* out);
void load_block(const void* base, DType dtype, std::int64_t offset, std::int64_t n, float* out);
/// element offset+i = in[i]. To bf16 it rounds half to even. To integers it truncates; the caller has rounded
/// already.
void store_block(void* base, DType dtype, std::int64_t offset, std::int64_t n, const float* in);

/// Returns an uninitialised tensor with the scale of x, if x has one.
Tensor like(const Tensor& x, const Shape& shape, DType dtype);

/// Throws unless `out` has this shape and dtype. `what`: the start of the message.
void expect_place(const char* what, const Tensor& out, const Shape& shape, DType dtype);

/// Throws unless the vector has one value per channel. `what`: the start of the message.
void check_channels(const char* what, const Tensor& vector, std::int64_t channels);

/// Cuts an N,H,W,C tensor into blocks of whole rows of C channels. Vectors with one value per channel are
/// repeated to the length of a block, so that inner loops are long and need no modulo.
class ChannelBlocks {
 public:
  /// rows_per_block: 0: as many as have some block_length elements, or one.
  explicit ChannelBlocks(const Shape& shape, std::int64_t rows_per_block = 0);

  std::int64_t channels() const { return channels_; }
  std::int64_t rows() const { return rows_; }
  std::int64_t length() const { return rows_per_block_ * channels_; }
  std::int64_t count() const { return divided_up(rows_, rows_per_block_); }
  std::int64_t offset(std::int64_t block) const { return block * length(); }
  /// Elements of a block: length(), fewer for the last block.
  std::int64_t size(std::int64_t block) const;
  AlignedVector<float> repeat(const float* per_channel) const;
  void repeat(const float* per_channel, float* repeated) const;
  /// per_channel[c] = the sum of values[i] with i mod channels == c.
  void fold(const float* values, std::int64_t n, double* per_channel) const;

 private:
  std::int64_t channels_;
  std::int64_t rows_;
  std::int64_t rows_per_block_;
};

/// Groups blocks into chunks of fixed length. Each chunk has its own partial sums. So the values that a
/// reduction adds, and their order, depend on the tensor only, not on the threads.
class Chunks {
 public:
  explicit Chunks(const ChannelBlocks& blocks)
      : blocks_(blocks),
        blocks_per_chunk_(std::max<std::int64_t>(16, 64 * blocks.channels() / blocks.length())) {}

  std::int64_t count() const { return divided_up(blocks_.count(), blocks_per_chunk_); }
  std::int64_t length() const { return blocks_.length() * blocks_per_chunk_; }
  std::int64_t offset(std::int64_t chunk) const { return chunk * length(); }
  /// Elements of a chunk: length(), fewer for the last chunk.
  std::int64_t size(std::int64_t chunk) const {
    return std::min(length(), blocks_.rows() * blocks_.channels() - offset(chunk));
  }
  /// The blocks of a chunk are begin(chunk) to end(chunk) − 1.
  std::int64_t begin(std::int64_t chunk) const { return chunk * blocks_per_chunk_; }
  std::int64_t end(std::int64_t chunk) const {
    return std::min(blocks_.count(), (chunk + 1) * blocks_per_chunk_);
  }

 private:
  ChannelBlocks blocks_;
  std::int64_t blocks_per_chunk_;  ///< some 64 rows or more, so partial sums take a fraction of the memory
};

/// What a reduction keeps of each chunk: a value of each channel, in double. Not initialised. The memory
/// comes from the caching allocator: fresh memory costs page faults, at every step as much as the sums
/// themselves.
class ChunkValues {
 public:
  ChunkValues(std::int64_t chunks, std::int64_t channels);

  /// The values of a chunk's channels.
  double* of(std::int64_t chunk) { return values_ + chunk * channels_; }
  const double* of(std::int64_t chunk) const { return values_ + chunk * channels_; }

 private:
  std::int64_t channels_;
  std::shared_ptr<std::byte> memory_;
  double* values_;
};

}  // namespace faq::kernels
