// The JSON of a safetensors file: what it may say, parsed strictly, and how it is written.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/dtype.h"
#include "core/shape.h"

namespace faq::safetensors {

inline constexpr std::uint64_t max_header_bytes = 100'000'000;
inline constexpr const char* metadata_key = "__metadata__";

using Metadata = std::map<std::string, std::string>;
using Checksums = std::map<std::string, std::uint32_t>;

struct Format {
  const char* name;
  std::size_t size;
  DType loads_as;
};
/// The first row of a DType is the one it is written as.
inline constexpr std::array formats = {
    Format{"F32", 4, DType::f32}, Format{"BF16", 2, DType::bf16}, Format{"I32", 4, DType::s32},
    Format{"I16", 2, DType::s16}, Format{"I8", 1, DType::s8},     Format{"U8", 1, DType::u8},
    Format{"F16", 2, DType::f32}, Format{"F64", 8, DType::f32},   Format{"I64", 8, DType::s32},
};

/// What the header says of one tensor; offsets count from the start of the buffer.
struct Entry {
  std::string name;
  const Format* format = nullptr;
  std::array<std::uint64_t, Shape::max_rank> extents{};
  std::size_t rank = 0;
  std::array<std::uint64_t, 2> offsets{};

  std::uint64_t bytes() const { return offsets[1] - offsets[0]; }
  Shape shape() const;  ///< precondition: every extent fits std::int64_t
};

struct Header {
  std::vector<Entry> entries;
  Metadata metadata;
};

/// {"__metadata__": {string: string...}, name: {"dtype": string, "shape": [n...], "data_offsets": [n, n]}...}
/// Throws bad_data, the message starting with `context`, for anything else, duplicate keys, more than
/// Shape::max_rank dimensions and unknown dtypes. What the numbers say is not checked here.
Header parse_header(const std::string& text, const std::string& context);

/// {name: "8 hex digits"...}; throws as parse_header does.
Checksums parse_checksums(const std::string& text, const std::string& context);

/// The header of these entries, without padding. Throws nlohmann's type_error when a string is not UTF-8.
std::string header_text(const std::vector<Entry>& entries, const Metadata& metadata);

/// {name: "8 hex digits"...} of these checksums; throws as header_text does.
std::string checksums_text(const Checksums& checksums);

/// 8 hex digits.
std::string hex(std::uint32_t value);

/// A name from a file, fit for a message of one line.
std::string quoted(const std::string& name);

}  // namespace faq::safetensors
