// What there is in the file system. That something cannot be found out is an error, never "there is none".
#pragma once

#include <filesystem>
#include <vector>

#include "core/error.h"

namespace faq {

/// The kind of error for an errno of a call on a file that somebody named: missing_input when the file is not
/// there or not for us, out_of_memory, else io.
ErrorKind kind_of_file_error(int error);

/// What has that name; not_found: nothing, or a link that leads nowhere. Throws as kind_of_file_error says.
std::filesystem::file_type file_type_of(const std::filesystem::path& file);
/// True if there is something of that name. Throws as kind_of_file_error says.
bool file_exists(const std::filesystem::path& file);
/// True if there is a folder of that name. Throws as kind_of_file_error says.
bool folder_exists(const std::filesystem::path& folder);
/// All entries of a folder, sorted by name. Throws as kind_of_file_error says.
std::vector<std::filesystem::directory_entry> entries_of(const std::filesystem::path& folder);

}  // namespace faq
