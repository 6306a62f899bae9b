// How a file stores the integers of a layer's weights: as codes of few bits, several codes in a byte.
#pragma once

#include <span>
#include <string>

#include "quant/deploy/weights.h"

namespace faq {

/// The name of a code in a file, and the code of a name. parse_weight_code throws bad_data.
const char* name_of(WeightCode code);
WeightCode parse_weight_code(const std::string& name);

/// The number of codes in a byte: four for 2 bits, two for 3 and 4 bits, one for more.
int codes_per_byte(int bits);
/// The dtype of the stored codes. Signed codes with one byte each need no packing: s8. All others: u8.
DType stored_as(int bits, WeightCode code);

/// Packs codes. The first code lies in the lowest bits of a byte. Unused bits of the last byte are 0.
Tensor pack_codes(std::span<const std::int8_t> codes, int per_byte);
Tensor unpack_codes(const Tensor& packed, int per_byte, const Shape& shape, bool is_signed);

/// The codes of weights as a file has them: packed where several share a byte, without the scales of
/// clusters.
Tensor stored_codes(const QuantizedWeights& weights);

/// Turns every integer q of DoReFa's weights into its code n, q = 2·n − (2^bits − 1), and back.
Tensor to_odd_codes(const Tensor& values, int bits);
Tensor from_odd_codes(Tensor codes, int bits);

}  // namespace faq
