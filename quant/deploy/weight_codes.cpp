#include "quant/deploy/weight_codes.h"

#include <algorithm>
#include <iterator>

#include "core/division.h"

namespace faq {
namespace {

struct Name {
  WeightCode code;
  const char* name;
};
constexpr Name names[] = {
    {WeightCode::fixed_point, "fixed_point"}, {WeightCode::odd, "odd"}, {WeightCode::clusters, "clusters"}};

}  // namespace

const char* name_of(WeightCode code) { return std::ranges::find(names, code, &Name::code)->name; }

WeightCode parse_weight_code(const std::string& name) {
  const auto* found = std::ranges::find(names, name, &Name::name);
  check(found != std::end(names), ErrorKind::bad_data, "weight_code '", name,
        "': expected fixed_point, odd or clusters");
  return found->code;
}

int codes_per_byte(int bits) { return bits <= 2 ? 4 : bits <= 4 ? 2 : 1; }

DType stored_as(int bits, WeightCode code) {
  return codes_per_byte(bits) == 1 && code != WeightCode::odd ? DType::s8 : DType::u8;
}

Tensor pack_codes(std::span<const std::int8_t> codes, int per_byte) {
  const auto count = static_cast<std::size_t>(per_byte), width = 8 / count;
  const unsigned mask = (1u << width) - 1;
  Tensor packed = Tensor::zeros({static_cast<std::int64_t>(divided_up(codes.size(), count))}, DType::u8);
  auto* to = packed.mutable_data<std::uint8_t>();
  for (std::size_t i = 0; i < codes.size(); ++i) {
    const unsigned field = static_cast<unsigned>(codes[i]) & mask;
    to[i / count] |= static_cast<std::uint8_t>(field << (i % count * width));
  }
  return packed;
}

Tensor unpack_codes(const Tensor& packed, int per_byte, const Shape& shape, bool is_signed) {
  const int width = 8 / per_byte;
  const int mask = (1 << width) - 1, sign = is_signed ? 1 << (width - 1) : 1 << width;
  Tensor codes = Tensor::empty(shape, DType::s8);
  const auto* from = packed.data<std::uint8_t>();
  auto* to = codes.mutable_data<std::int8_t>();
  for (std::int64_t i = 0; i < codes.numel(); ++i) {
    const int field = from[i / per_byte] >> (i % per_byte * width) & mask;
    to[i] = static_cast<std::int8_t>(field >= sign ? field - 2 * sign : field);
  }
  return codes;
}

Tensor stored_codes(const QuantizedWeights& weights) {
  Tensor codes = weights.values;
  if (weights.code == WeightCode::odd) codes = to_odd_codes(codes, weights.bits);
  if (weights.code == WeightCode::clusters) codes = weights.clusters.codes;
  if (stored_as(weights.bits, weights.code) == DType::s8) return codes;
  return pack_codes(codes.span<std::int8_t>(), codes_per_byte(weights.bits));
}

Tensor to_odd_codes(const Tensor& values, int bits) {
  Tensor codes = values.clone();
  for (std::int8_t& v : codes.mutable_span<std::int8_t>())
    v = static_cast<std::int8_t>((v + (1 << bits) - 1) / 2);
  return codes;
}

Tensor from_odd_codes(Tensor codes, int bits) {
  for (std::int8_t& v : codes.mutable_span<std::int8_t>())
    v = static_cast<std::int8_t>(2 * v - ((1 << bits) - 1));
  return codes;
}

}  // namespace faq
