// How the integers of a layer's weights lie in a file: as codes of few bits, several to a byte.
#pragma once

#include <span>
#include <string>

#include "quant/deploy/weights.h"

namespace faq {

/// The name a file has for a code, and back; the second throws bad_data.
const char* name_of(WeightCode code);
WeightCode parse_weight_code(const std::string& name);

/// Codes of 2 bits are stored four to a byte and those of up to 4 bits two to a byte. Wider ones have a byte
/// each.
int codes_per_byte(int bits);
/// Signed codes with a byte each need no packing: s8. All others are u8.
DType stored_as(int bits, WeightCode code);

/// The first code lies in the lowest bits. What is left of the last byte is 0.
Tensor pack_codes(std::span<const std::int8_t> codes, int per_byte);
Tensor unpack_codes(const Tensor& packed, int per_byte, const Shape& shape, bool is_signed);

/// Every integer of DoReFa's as its n: q = 2·n − (2^bits − 1).
Tensor to_odd_codes(const Tensor& values, int bits);
Tensor from_odd_codes(Tensor codes, int bits);

}  // namespace faq
