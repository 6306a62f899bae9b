// Files that are either the old one or the complete new one, whatever happens in between.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string_view>

namespace faq {

/// Writes a temporary file beside `file`, flushes and fsyncs it, renames it over `file` and fsyncs the folder.
/// On any failure the temporary is removed, the old `file` is untouched, and Error(io) names the call, the file
/// and the cause. A failed fsync is never retried.
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
  std::filesystem::path file_;
  std::filesystem::path temporary_;
  int descriptor_ = -1;
};

}  // namespace faq
