// Results that leave the caches alone. Included by core/kernels/*.cpp only, and by their tests.
#pragma once

#include <cstdint>
#include <vector>

namespace faq::kernels {

/// to = from·factor, for memory that is larger than the caches and is not read soon: on x86-64 written past
/// them. An ordinary store reads a line of memory before it writes it.
void multiply_streamed(const float* from, float factor, std::int64_t n, float* to);
/// Ends what a thread has written: called before another thread may read it.
void end_streamed();

/// The loops that run on this CPU, of which multiply_streamed() takes the first.
using MultiplyStreamed = void (*)(const float* from, float factor, std::int64_t n, float* to);
std::vector<MultiplyStreamed> streamed_loops();

}  // namespace faq::kernels
