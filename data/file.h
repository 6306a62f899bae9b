// Reads whole files into memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <vector>

#include "core/error.h"

namespace faq {

/// Reads a file. Throws missing_input when it cannot be opened, io when reading fails, bad_data when it is
/// not a regular file or is larger than `max_bytes`. Each message names the file.
std::vector<std::byte> read_file(const std::filesystem::path& file, std::int64_t max_bytes);

}  // namespace faq
