#include "core/kernels/used_bits.h"

#include <atomic>

#include "core/kernels/simd.h"
#include "core/parallel.h"

namespace faq::kernels {
namespace {

FAQ_SIMD std::uint8_t bits_of(const std::uint8_t* bytes, std::int64_t n) {
  std::uint8_t bits = 0;
  for (std::int64_t i = 0; i < n; ++i) bits |= bytes[i];
  return bits;
}

}  // namespace

std::uint8_t used_bits(const std::uint8_t* bytes, std::int64_t n) {
  std::atomic<std::uint8_t> bits = 0;
  parallel_for(n, 1 << 14, [&](std::int64_t begin, std::int64_t end) {
    bits.fetch_or(bits_of(bytes + begin, end - begin), std::memory_order_relaxed);
  });
  return bits;
}

}  // namespace faq::kernels
