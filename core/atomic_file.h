// Files that are either the old one or the complete new one, whatever happens in between.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <filesystem>
#include <span>
#include <string_view>

namespace faq {

/// Writes a temporary file `.<name>.tmp.<pid>` beside `file`, fsyncs it, renames it over `file` and fsyncs
/// the folder. On any failure the temporary is removed, the old `file` is untouched, and Error(io) names the
/// call, the file and the cause; a file-size limit (RLIMIT_FSIZE) is such a failure and does not kill the
/// process. A failed fsync is never retried. When only the last call, the fsync of the folder, fails, `file`
/// is already the complete new one. One writer per file at a time.
class AtomicFile {
 public:
  explicit AtomicFile(std::filesystem::path file);
  ~AtomicFile();  ///< discards everything unless commit() succeeded
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(std::span<const std::byte> bytes);
  void write(std::string_view text) { write(std::as_bytes(std::span(text.data(), text.size()))); }
  void commit();

 private:
  [[noreturn]] void give_up(const char* call);
  void discard() noexcept;

  std::filesystem::path file_;
  std::filesystem::path temporary_;  ///< empty once renamed or removed
  int descriptor_ = -1;
};

/// Removes the temporary files that killed processes left in `folder`; one that cannot be removed stays.
/// Precondition: nobody writes an AtomicFile there.
void remove_temporary_files(const std::filesystem::path& folder) noexcept;

/// The system calls that files are read and written with. Tests replace entries to inject faults.
struct FileCalls {
  int (*open)(const char* file, int flags, mode_t mode);
  ssize_t (*read)(int descriptor, void* bytes, std::size_t count);
  ssize_t (*write)(int descriptor, const void* bytes, std::size_t count);
  int (*fsync)(int descriptor);
  int (*close)(int descriptor);
  int (*rename)(const char* from, const char* to);
  int (*unlink)(const char* file);
};
FileCalls& file_calls();

}  // namespace faq
