// Atomic replacement of files: a file is the old one or the complete new one, whatever happens in between.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <filesystem>
#include <span>
#include <string_view>

namespace faq {

/// Writes a temporary file `.<name>.tmp.<pid>` beside `file`, fsyncs it, renames it over `file` and fsyncs
/// the folder. One writer per file at a time.
///
/// On any failure the temporary file is removed, the old `file` is untouched, and Error(io) names the call,
/// the file and the cause. Exception: when only the last call fails, the fsync of the folder, `file` is
/// already the complete new one. A failed fsync is never retried. A file-size limit (RLIMIT_FSIZE) is a
/// failure like others and does not kill the process.
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

/// Removes the temporary files that killed processes left in `folder`. A file that cannot be removed stays.
/// Precondition: no AtomicFile is being written there.
void remove_temporary_files(const std::filesystem::path& folder) noexcept;

/// The system calls for reading and writing files. Tests replace entries to inject faults.
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
