// Opens files that others name. A pipe, a device or a folder of that name is an error, and nothing waits.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

#include "core/error.h"

namespace faq {

/// A regular file that is open for reading.
class RegularFile {
 public:
  /// Throws missing_input when the file cannot be opened (io for too few descriptors or a fault of the disk)
  /// and bad_data when it is no regular file. `what`: the start of messages, before the name of the file; it
  /// may be empty.
  explicit RegularFile(std::filesystem::path file, const std::string& what = "");
  ~RegularFile();
  RegularFile(const RegularFile&) = delete;
  RegularFile& operator=(const RegularFile&) = delete;

  const std::filesystem::path& path() const { return path_; }
  int descriptor() const { return descriptor_; }
  /// Its size when it was opened. Files of /proc have 0, whatever can be read from them.
  std::int64_t bytes() const { return bytes_; }
  /// Reads the next bytes and returns how many; fewer than asked for at the end only. Throws io.
  std::size_t read(std::span<std::byte> into) const;
  /// The same from that position on. May be called by several threads at once.
  std::size_t read_at(std::int64_t position, std::span<std::byte> into) const;

 private:
  template <class ReadSome>
  std::size_t fill(std::span<std::byte> into, const ReadSome& read_some) const;

  std::filesystem::path path_;
  std::string name_;  ///< in messages
  int descriptor_;
  std::int64_t bytes_ = 0;
};

/// Reads a text file. Also throws bad_data for more than `max_bytes`.
std::string read_text_file(const std::filesystem::path& file, const std::string& what,
                           std::int64_t max_bytes);

}  // namespace faq
