// The JSON header of a safetensors file: a strict parser, and a writer.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/dtype.h"
#include "core/shape.h"

namespace faq::safetensors {

inline constexpr std::uint64_t max_header_bytes = 100'000'000;
/// Many times what a checkpoint of the largest network has; a hostile header ends here.
inline constexpr std::size_t max_tensors = 100'000;
inline constexpr const char* metadata_key = "__metadata__";

using Metadata = std::map<std::string, std::string>;
using Checksums = std::map<std::string, std::uint32_t>;

struct Format {
  const char* name;
  std::size_t size;
  std::optional<DType> loads_as = {};  ///< nothing: no tensor of ours holds its values
};
/// A DType is written as the first row that has it.
inline constexpr std::array formats = {
    Format{"F32", 4, DType::f32},
    Format{"BF16", 2, DType::bf16},
    Format{"I32", 4, DType::s32},
    Format{"I16", 2, DType::s16},
    Format{"I8", 1, DType::s8},
    Format{"U8", 1, DType::u8},
    Format{"F16", 2, DType::f32},
    Format{"F64", 8, DType::f32},
    Format{"I64", 8, DType::s32},
    Format{"BOOL", 1, DType::u8},
    Format{"U16", 2},
    Format{"U32", 4},
    Format{"U64", 8},
    Format{"F8_E4M3", 1},
    Format{"F8_E5M2", 1},
    Format{"F8_E8M0", 1},
    Format{"C64", 8},
};

/// The header's entry for one tensor. Offsets count from the start of the buffer.
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

/// Parses the header:
/// {"__metadata__": {string: string...}, name: {"dtype": string, "shape": [n...], "data_offsets": [n, n]}...}
/// Throws bad_data, with a message that starts with `context`, for anything else, duplicate keys, more than
/// Shape::max_rank dimensions or `max_tensors` tensors, and unknown dtypes. The numbers themselves are not
/// checked here.
Header parse_header(const std::string& text, const std::string& context);

/// Parses {name: "8 hex digits"...}. Throws as parse_header does.
Checksums parse_checksums(const std::string& text, const std::string& context);

/// Returns the header for these entries, without padding. Throws nlohmann's type_error when a string is not
/// UTF-8.
std::string header_text(const std::vector<Entry>& entries, const Metadata& metadata);

/// Returns {name: "8 hex digits"...} for these checksums. Throws as header_text does.
std::string checksums_text(const Checksums& checksums);

/// Returns 8 hex digits.
std::string hex(std::uint32_t value);

/// Returns a name from a file in a form that fits into a message of one line.
std::string quoted(const std::string& name);

}  // namespace faq::safetensors
