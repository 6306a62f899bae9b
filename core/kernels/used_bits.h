// How large bytes are.
#pragma once

#include <cstdint>

namespace faq::kernels {

/// The bits that any of the bytes has, so no byte is larger. In all threads.
std::uint8_t used_bits(const std::uint8_t* bytes, std::int64_t n);

}  // namespace faq::kernels
