// The safetensors format: a JSON header and one flat buffer. Reading validates everything before use.
#pragma once

#include <cstddef>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/tensor.h"

namespace faq {

/// A tensor of a file that none of our dtypes holds, and why.
struct UnusableTensor {
  std::string name;
  std::string why;  ///< "dtype C64", "value 1e+300 of element 0 does not fit f32"
};

/// An ordered set of named tensors and string metadata. F32, BF16, I32, I16, I8 and U8 load as the dtype of
/// the same name. F16 and F64 are converted to f32, I64 to s32, BOOL to u8. The FixedPoint of a tensor is not
/// part of the format.
struct NamedTensors {
  std::vector<std::pair<std::string, Tensor>> tensors;  ///< in file order
  std::map<std::string, std::string> metadata;
  bool has_checksums = false;                 ///< set by reading: the file had them, and they matched
  std::vector<UnusableTensor> unusable = {};  ///< set by read_usable_tensors

  const Tensor* find(const std::string& name) const;
  void add(std::string name, Tensor tensor) { tensors.emplace_back(std::move(name), std::move(tensor)); }
};

/// Reads a whole file. Throws:
/// - missing_input when the file cannot be opened.
/// - io when reading fails or the file shrinks meanwhile.
/// - bad_data (with the file, the tensor and the offset) when the header is malformed: length 0 or beyond the
///   file or above 100,000,000, not a JSON object, duplicate keys, nesting deeper than the format needs,
///   invalid UTF-8, non-string metadata, unknown dtype, negative or fractional sizes, a shape whose product
///   overflows or disagrees with its byte range, ranges that are not contiguous from 0, holes, overlaps,
///   trailing bytes, rank above Shape::max_rank, more than 100,000 tensors.
/// - bad_data when a tensor is unusable: its dtype is the format's and none of ours (U16, U32, U64, F8_E4M3,
///   F8_E5M2, F8_E8M0, C64), or a finite number does not fit.
/// - bad_data when a checksum written by write_safetensors does not match, or when the checksums are there
///   under another name than write_safetensors gives them.
NamedTensors read_safetensors(const std::filesystem::path& file);

/// The same for a file of somebody else's: a tensor that is unusable is listed. The network may not need it.
NamedTensors read_usable_tensors(const std::filesystem::path& file);

/// Reads only the metadata. The header is validated as above; the buffer is not read.
std::map<std::string, std::string> read_safetensors_metadata(const std::filesystem::path& file);

/// Writes atomically (see atomic_file.h). Checksums go into the metadata entry "crc32", a JSON object of 8
/// hex digits each: the CRC-32 of every tensor's bytes under its name, and under "__metadata__" that of the
/// header without the "crc32" entry. Reading verifies the checksums if the entry is present, and removes the
/// entry.
void write_safetensors(const std::filesystem::path& file, const NamedTensors& contents);

/// The same parser for bytes in memory. `name` is used in messages.
NamedTensors parse_safetensors(std::span<const std::byte> bytes, const std::string& name);

/// Throws bad_data if a file that write_safetensors made came without checksums. `what` names it, e.g.
/// "checkpoint last.safetensors".
void check_has_checksums(const NamedTensors& contents, const std::string& what);

}  // namespace faq
