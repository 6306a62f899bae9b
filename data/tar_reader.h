// Reads tar files with libarchive. Included by data/tar_*.cpp only.
#pragma once

#include <archive.h>
#include <archive_entry.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "core/error.h"
#include "core/regular_file.h"

namespace faq {

/// An open tar file. Any number of threads may read it.
using Shard = RegularFile;

/// Reads one shard, from a given position on. Its functions throw bad_data with the file for what is no tar
/// file, and io when reading fails.
class TarReader {
 public:
  TarReader(const Shard& shard, std::int64_t position);

  /// Returns the next member, or null at the end, of which check_end() knows more.
  archive_entry* next();
  /// The position of the header of the last member.
  std::int64_t header_position() const { return archive_read_header_position(archive_.get()); }
  /// The first `size` bytes of the last member.
  std::vector<std::byte> contents(std::int64_t size);
  /// After the last member. Returns true if the marker of the end is there, which every tar program writes.
  /// Throws bad_data if more follows it: members that nobody would have read.
  bool check_end();

 private:
  bool is_zero(std::int64_t position, std::int64_t size);
  static la_ssize_t read(archive* a, void* self, const void** buffer);
  static la_int64_t skip(archive*, void* self, la_int64_t bytes);
  void expect(int status, const char* what) const;

  const Shard& shard_;
  std::int64_t position_;
  std::optional<Error> read_error_;
  std::array<std::byte, 1 << 16> buffer_;
  std::unique_ptr<archive, decltype(&archive_read_free)> archive_;
};

}  // namespace faq
