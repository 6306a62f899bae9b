#include "data/tar_reader.h"

#include <algorithm>
#include <cerrno>
#include <span>
#include <string>

namespace faq {
namespace {

constexpr std::int64_t record = 512;

}  // namespace

TarReader::TarReader(const Shard& shard, std::int64_t position)
    : shard_(shard), position_(position), archive_(archive_read_new(), &archive_read_free) {
  check(archive_ != nullptr, ErrorKind::out_of_memory, shard.path().string(), ": no memory");
  archive_read_support_format_tar(archive_.get());
  archive_read_set_read_callback(archive_.get(), &TarReader::read);
  archive_read_set_skip_callback(archive_.get(), &TarReader::skip);
  archive_read_set_callback_data(archive_.get(), this);
  expect(archive_read_open1(archive_.get()), "is not a tar file");
}

archive_entry* TarReader::next() {
  archive_entry* entry = nullptr;
  const int status = archive_read_next_header(archive_.get(), &entry);
  if (status == ARCHIVE_EOF) return nullptr;
  // After a warning the entry is usable. Usually its name is not valid in the program's locale ("C"), and
  // we get its bytes.
  expect(status == ARCHIVE_WARN ? ARCHIVE_OK : status, "has a bad header");
  return entry;
}

bool TarReader::check_end() {
  std::int64_t at = archive_filter_bytes(archive_.get(), 0);
  // What was skipped counts as read, whether it is there or not.
  check(at <= shard_.bytes(), ErrorKind::bad_data, shard_.path().string(), ": ends within a member");
  const bool is_marked = at >= record && is_zero(at - record, record);
  for (; at < shard_.bytes(); at += record)
    check(is_zero(at, std::min(record, shard_.bytes() - at)), ErrorKind::bad_data, shard_.path().string(),
          ": data follow the end of the archive, at byte ", at,
          ": it is damaged, or several archives in one file: unpack them, and pack them into one");
  return is_marked;
}

std::vector<std::byte> TarReader::contents(std::int64_t size) {
  std::vector<std::byte> bytes(static_cast<std::size_t>(size));
  std::size_t filled = 0;
  while (filled < bytes.size()) {
    const auto n = archive_read_data(archive_.get(), bytes.data() + filled, bytes.size() - filled);
    expect(n < 0 ? static_cast<int>(n) : ARCHIVE_OK, "cannot be read");
    check(n > 0, ErrorKind::bad_data, shard_.path().string(), ": ends within a member");
    filled += static_cast<std::size_t>(n);
  }
  return bytes;
}

bool TarReader::is_zero(std::int64_t position, std::int64_t size) {
  std::array<char, record> bytes{};
  const std::span wanted = std::span(bytes).first(static_cast<std::size_t>(size));
  check(shard_.read_at(position, std::as_writable_bytes(wanted)) == wanted.size(), ErrorKind::bad_data,
        shard_.path().string(), ": it has become shorter");
  return std::ranges::all_of(wanted, [](char c) { return c == 0; });
}

la_ssize_t TarReader::read(archive* a, void* self, const void** buffer) {
  auto& reader = *static_cast<TarReader*>(self);
  *buffer = reader.buffer_.data();
  try {
    const auto n = static_cast<la_ssize_t>(
        reader.shard_.read_at(reader.position_, std::as_writable_bytes(std::span(reader.buffer_))));
    reader.position_ += n;
    return n;
  } catch (const Error& error) {  // does not pass through a library in C
    reader.read_error_ = error;
    archive_set_error(a, EIO, "%s", error.what());
    return -1;
  }
}

la_int64_t TarReader::skip(archive*, void* self, la_int64_t bytes) {
  static_cast<TarReader*>(self)->position_ += bytes;
  return bytes;
}

void TarReader::expect(int status, const char* what) const {
  if (status == ARCHIVE_OK) return;
  if (read_error_) throw *read_error_;
  const char* reason = archive_error_string(archive_.get());
  fail(ErrorKind::bad_data, shard_.path().string(), ": ", what, ": ", reason ? reason : "unknown error");
}

}  // namespace faq
