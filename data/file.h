// Whole files into memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <vector>

#include "core/error.h"

namespace faq {

/// Throws missing_input when the file cannot be opened, io when reading fails, bad_data when it is not a
/// regular file or larger than `max_bytes`; each names the file.
std::vector<std::byte> read_file(const std::filesystem::path& file, std::int64_t max_bytes);

/// What errno says after a file could not be opened: io when that is for want of descriptors or the disk's
/// fault, else missing_input.
ErrorKind kind_of_open_error(int error);

}  // namespace faq
