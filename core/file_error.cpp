#include "core/file_error.h"

#include <algorithm>
#include <cerrno>
#include <system_error>

namespace faq {

namespace fs = std::filesystem;

fs::file_type file_type_of(const fs::path& file) {
  std::error_code error;
  const fs::file_type type = fs::status(file, error).type();
  if (error == std::errc::too_many_symbolic_link_levels) return fs::file_type::not_found;
  check(type == fs::file_type::not_found || !error, kind_of_file_error(error.value()), file.string(),
        ": cannot be examined: ", error.message());
  return type;
}

ErrorKind kind_of_file_error(int error) {
  switch (error) {
    case ENOENT:
    case ENOTDIR:
    case EACCES:
    case EPERM:
    case ELOOP:
    case ENAMETOOLONG:
      return ErrorKind::missing_input;
    case ENOMEM:
      return ErrorKind::out_of_memory;
    default:  // the disk, the quota, the number of descriptors, a call that was interrupted
      return ErrorKind::io;
  }
}

bool file_exists(const fs::path& file) { return file_type_of(file) != fs::file_type::not_found; }

bool folder_exists(const fs::path& folder) { return file_type_of(folder) == fs::file_type::directory; }

std::vector<fs::directory_entry> entries_of(const fs::path& folder) {
  std::vector<fs::directory_entry> found;
  std::error_code error;
  fs::directory_iterator it(folder, error);
  for (; !error && it != fs::directory_iterator(); it.increment(error)) found.push_back(*it);
  check(!error, kind_of_file_error(error.value()), folder.string(), ": cannot be listed: ", error.message());
  std::ranges::sort(found, {},
                    [](const fs::directory_entry& e) -> const std::string& { return e.path().native(); });
  return found;
}

}  // namespace faq
